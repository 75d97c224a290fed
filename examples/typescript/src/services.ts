// The gateway's services, by gRPC or by Connect: the same clients over another transport.

import { readFileSync } from "node:fs";
import * as http from "node:http";
import * as https from "node:https";

import { createClient, type Client, type Interceptor, type Transport } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { ClusterService } from "@daskgateway/stubs/daskgateway/v1/cluster_service_pb.js";
import { CredentialService } from "@daskgateway/stubs/daskgateway/v1/credential_service_pb.js";

import { createGrpcJsTransport } from "./grpc-js.js";

export interface Services {
  clusters: Client<typeof ClusterService>;
  credentials: Client<typeof CredentialService>;
  /** The path that an HTTP proxy serves the gateway below; empty elsewhere. */
  path: string;
  close(): void;
}

export function open(way: "grpc" | "connect", known: boolean): Services {
  const address = new URL(process.env.DASKGATEWAY_ADDRESS ?? "");
  const caFile = process.env.DASKGATEWAY_CA_FILE;
  const ca = caFile ? readFileSync(caFile) : undefined;
  const path = address.pathname.replace(/\/$/, "");
  const authorize: Interceptor = (next) => (request) => {
    if (known) {
      request.header.set("authorization", authorization());
    }
    return next(request);
  };
  let transport: Transport;
  let close = () => {};
  if (way === "connect") {
    const secure = address.protocol === "https:";
    const agent = secure ? new https.Agent({ ca, keepAlive: true }) : new http.Agent({ keepAlive: true });
    transport = createConnectTransport({
      baseUrl: address.origin + path,
      httpVersion: "1.1",
      useBinaryFormat: false,
      nodeOptions: { agent },
      interceptors: [authorize],
    });
    close = () => agent.destroy();
  } else {
    const made = createGrpcJsTransport(address, ca, known ? authorization() : undefined);
    transport = made.transport;
    close = made.close;
  }
  return {
    clusters: createClient(ClusterService, transport),
    credentials: createClient(CredentialService, transport),
    path,
    close,
  };
}

/** What goes with every call; a token goes as `Bearer …`. */
function authorization(): string {
  const shown = `${process.env.DASKGATEWAY_USER ?? ""}:${process.env.DASKGATEWAY_PASSWORD ?? ""}`;
  return `Basic ${Buffer.from(shown).toString("base64")}`;
}
