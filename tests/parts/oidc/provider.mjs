// A real OpenID provider with people who come, change and go, and keys that are changed.
// node provider.mjs PARTS_DIRECTORY ISSUER PORT
import { createServer } from 'node:http';
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { pathToFileURL } from 'node:url';

const [parts, issuer, port] = process.argv.slice(2);
const { Provider } = await import(pathToFileURL(`${parts}/node_modules/oidc-provider/lib/index.js`));

const AUDIENCE = 'dask-gateway';
const RESOURCE = 'https://gateway.test';
const people = new Map();
let keys = [newKey()];
let clients = [];
let callback = make();

function newKey() {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { ...privateKey.export({ format: 'jwk' }), kid: randomUUID(), use: 'sig', alg: 'RS256' };
}

function of(user) {
  const { groups } = people.get(user) ?? { groups: [] };
  return { preferred_username: user, groups };
}

function make() {
  const provider = new Provider(issuer, {
    clients: [
      {
        client_id: 'cli',
        token_endpoint_auth_method: 'none',
        application_type: 'native',
        grant_types: ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'],
        response_types: ['code'],
        redirect_uris: ['http://127.0.0.1/callback'],
      },
      {
        client_id: 'brief',
        token_endpoint_auth_method: 'none',
        application_type: 'native',
        grant_types: ['authorization_code'],
        response_types: ['code'],
        redirect_uris: ['http://127.0.0.1/callback'],
      },
      {
        client_id: 'robot',
        client_secret: 'a secret of the robot: %+/',
        grant_types: ['client_credentials'],
        redirect_uris: [],
        response_types: [],
      },
      {
        client_id: 'elsewhere',
        client_secret: 'a secret of another program',
        grant_types: ['client_credentials'],
        redirect_uris: [],
        response_types: [],
      },
      ...clients,
    ],
    jwks: { keys },
    cookies: { keys: ['a key of cookies'] },
    claims: { openid: ['sub', 'preferred_username', 'groups'] },
    conformIdTokenClaims: false,
    scopes: ['openid', 'offline_access'],
    pkce: { required: () => true },
    ttl: { AccessToken: (ctx, token, client) => (client.clientId === 'brief' ? 1 : 600), ClientCredentials: 600, IdToken: 600, DeviceCode: 600, Grant: 3600, Session: 3600, Interaction: 600 },
    rotateRefreshToken: true,
    issueRefreshToken: async (ctx, client, code) => client.grantTypeAllowed('refresh_token') && code.scopes.has('offline_access'),
    findAccount: async (ctx, id) => (people.has(id) ? { accountId: id, claims: async () => ({ sub: id, ...of(id) }) } : undefined),
    extraTokenClaims: async (ctx, token) => (token.accountId ? of(token.accountId) : {}),
    features: {
      devInteractions: { enabled: true },
      deviceFlow: { enabled: true },
      clientCredentials: { enabled: true },
      revocation: { enabled: true },
      rpInitiatedLogout: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => RESOURCE,
        useGrantedResource: () => true,
        getResourceServerInfo: (ctx, resource, client) => ({
          scope: 'openid',
          audience: client.clientId === 'elsewhere' ? 'another-program' : AUDIENCE,
          accessTokenFormat: 'jwt',
          jwt: { sign: { alg: 'RS256' } },
        }),
      },
    },
  });
  provider.on('server_error', (ctx, error) => console.error(error));
  return provider.callback();
}

async function told(request) {
  let body = '';
  for await (const piece of request) body += piece;
  return body ? JSON.parse(body) : {};
}

// what a test does to the provider, as its administrator would
const orders = {
  people: ({ user, groups }) => people.set(user, { groups }),
  remove: ({ user }) => people.delete(user),
  rotate: ({ keep }) => {
    keys = [newKey(), ...(keep ? keys : [])];
    callback = make();
  },
  client: (client) => {
    clients = [...clients.filter((one) => one.client_id !== client.client_id), client];
    callback = make();
  },
};

createServer(async (request, response) => {
  const order = orders[request.url.replace('/test/', '')];
  if (!order) return callback(request, response);
  order(await told(request));
  return response.writeHead(204).end();
}).listen(Number(port), '127.0.0.1');
