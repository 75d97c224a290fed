// A client of the gateway's API in TypeScript, and one conformance run: what a client does in its
// life, each step told as a line of JSON. The same run is written in the directories beside this one.
//
//   node dist/conformance.js grpc|connect CLUSTER-ID
//
// DASKGATEWAY_ADDRESS, DASKGATEWAY_USER and DASKGATEWAY_PASSWORD say where the gateway is and who
// calls; DASKGATEWAY_CA_FILE names a CA beside those of the system.

import { open } from "./services.js";
import { Skipped, Steps } from "./steps.js";

async function main(): Promise<number> {
  const [way, id] = process.argv.slice(2);
  if ((way !== "grpc" && way !== "connect") || !id) {
    console.error("usage: conformance grpc|connect CLUSTER-ID");
    return 2;
  }
  const gateway = open(way, true);
  const nobody = open(way, false);
  const steps = new Steps(gateway, nobody, id);
  try {
    for (const [step, take] of Object.entries(steps.all())) {
      let line: Record<string, unknown>;
      try {
        line = { step, ok: true, saw: await take() };
      } catch (error) {
        line =
          error instanceof Skipped
            ? { step, ok: true, skipped: error.message }
            : { step, ok: false, error: String(error) };
      }
      console.log(JSON.stringify(line));
      if (!line.ok) {
        return 1;
      }
    }
    return 0;
  } finally {
    await steps.leaveNothing();
    gateway.close();
    nobody.close();
  }
}

process.exit(await main());
