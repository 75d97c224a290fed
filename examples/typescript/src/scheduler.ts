// The TLS of one cluster's scheduler, which is reached by its name (SNI).

import { generateKeyPairSync } from "node:crypto";
import { connect } from "node:tls";

import type { GenerateClientCertificateResponse } from "@daskgateway/stubs/daskgateway/v1/credential_service_pb.js";

export function newKey(): { publicKey: string; privateKey: string } {
  return generateKeyPairSync("ec", {
    namedCurve: "P-256",
    publicKeyEncoding: { type: "spki", format: "pem" },
    privateKeyEncoding: { type: "pkcs8", format: "pem" },
  });
}

/** Tells whether the scheduler greets. `address`: dgw://host:port/uid; no key for no certificate. */
export function greeting(
  address: string,
  signed: GenerateClientCertificateResponse,
  key: string | undefined,
): Promise<string> {
  const place = new URL(address.replace(/^dgw:/, "http:"));
  return new Promise((resolve, reject) => {
    let secured = false;
    const socket = connect({
      host: place.hostname,
      port: Number(place.port),
      servername: signed.serverName,
      ca: signed.caCertificate,
      ...(key === undefined ? {} : { key, cert: signed.certificate }),
      timeout: 30_000,
    });
    const tell = (word: string) => {
      socket.destroy();
      resolve(word);
    };
    socket.on("secureConnect", () => (secured = true));
    socket.on("data", () => tell("greeted"));
    socket.on("timeout", () => tell("silent"));
    socket.on("close", () => tell("refused"));
    socket.on("error", (error) => (secured ? tell("refused") : reject(error)));
  });
}
