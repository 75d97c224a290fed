// The steps of the run, and what one leaves to the next.

import { randomUUID } from "node:crypto";

import { clone, create } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, type CallOptions } from "@connectrpc/connect";
import {
  ClusterSchema,
  ClusterState,
  ClusterStateSchema,
  type Cluster,
} from "@daskgateway/stubs/daskgateway/v1/cluster_pb.js";
import {
  CreateClusterRequestSchema,
  WatchEventTypeSchema,
  type WatchEventType,
  type CreateClusterRequest,
  type WatchClustersResponse,
} from "@daskgateway/stubs/daskgateway/v1/cluster_service_pb.js";
import { BadRequestSchema, ErrorInfoSchema } from "@daskgateway/stubs/google/rpc/error_details_pb.js";

import { greeting, newKey } from "./scheduler.js";
import type { Services } from "./services.js";

type Saw = Record<string, unknown>;

const PATIENCE: CallOptions = { timeoutMs: 90_000 };

/** A step that cannot be taken by this way. */
export class Skipped extends Error {}

export class Steps {
  private cluster: Cluster | undefined;
  private asked: CreateClusterRequest;
  private firstEtag = "";
  private revision = 0n; // up to which the watch has told everything

  constructor(
    private readonly gateway: Services,
    private readonly nobody: Services,
    private readonly id: string,
  ) {
    this.asked = create(CreateClusterRequestSchema, {
      parent: "users/-",
      clusterId: id,
      cluster: sized(0),
      requestId: randomUUID(),
    });
  }

  all(): Record<string, () => Promise<Saw>> {
    return {
      "sign-in": () => this.signIn(),
      create: () => this.create(),
      repeat: () => this.repeat(),
      wait: () => this.wait(),
      watch: () => this.watch(),
      scale: () => this.scale(),
      resume: () => this.resume(),
      conflict: () => this.conflict(),
      exists: () => this.exists(),
      pages: () => this.pages(),
      logs: () => this.logs(),
      errors: () => this.errors(),
      deadline: () => this.deadline(),
      scheduler: () => this.scheduler(),
      stop: () => this.stop(),
    };
  }

  /** After a step that failed the cluster must not live on. */
  async leaveNothing(): Promise<void> {
    if (this.cluster) {
      const ended = this.gateway.clusters.stopCluster({ name: this.cluster.name }, { timeoutMs: 10_000 });
      await ended.catch(() => undefined);
    }
  }

  private get known(): Cluster {
    if (!this.cluster) {
      throw new Error("there is no cluster yet");
    }
    return this.cluster;
  }

  private async signIn(): Promise<Saw> {
    const offered = await this.nobody.credentials.getSignInOptions({}, PATIENCE);
    const who = await this.gateway.credentials.whoAmI({}, PATIENCE);
    return { ways: offered.options.map((option) => option.name), user: who.user };
  }

  private async create(): Promise<Saw> {
    const { made, replayed } = await this.told(this.asked);
    this.cluster = made;
    this.firstEtag = made.etag;
    return { name: made.name, owner: made.owner, labels: made.labels, state: state(made), replayed };
  }

  /** The same call with the same request_id: its effect is answered again, and nothing is made. */
  private async repeat(): Promise<Saw> {
    const { made, replayed } = await this.told(this.asked);
    const other = clone(CreateClusterRequestSchema, this.asked);
    other.clusterId = `${this.id}-other`;
    const reused = await refusal(this.gateway.clusters.createCluster(other, PATIENCE));
    return { same: made.uid === this.known.uid, replayed, reused };
  }

  private async told(request: CreateClusterRequest): Promise<{ made: Cluster; replayed: boolean }> {
    let replayed = false;
    const onTrailer = (trailer: Headers) => {
      replayed = trailer.get("x-idempotent-replay") === "1";
    };
    const made = await this.gateway.clusters.createCluster(request, { ...PATIENCE, onTrailer });
    return { made, replayed };
  }

  private async wait(): Promise<Saw> {
    this.cluster = await this.waitFor(ClusterState.ACTIVE);
    return { state: state(this.cluster) };
  }

  /** A call waits for a minute at most, so it is repeated. */
  private async waitFor(wanted: ClusterState): Promise<Cluster> {
    const deadline = Date.now() + 90_000;
    const request = { name: this.known.name, states: [wanted], timeout: durationFromMs(20_000) };
    while (Date.now() < deadline) {
      const now = await this.gateway.clusters.waitCluster(request, PATIENCE);
      if (now.status?.state === wanted) {
        return now;
      }
      if (now.stopTime) {
        throw new Error(`it ended: ${now.status?.reason}: ${now.status?.message}`);
      }
    }
    throw new Error(`it is not ${ClusterState[wanted]} in time`);
  }

  /** Reads a watch until there is nothing more to know. */
  private async watching(
    startRevision: bigint,
    read: (step: WatchClustersResponse) => Saw | undefined,
  ): Promise<Saw> {
    const end = new AbortController();
    const request = { clusters: [this.known.name], startRevision };
    try {
      const told = this.gateway.clusters.watchClusters(request, { ...PATIENCE, signal: end.signal });
      for await (const step of told) {
        const found = read(step);
        if (found) {
          return found;
        }
      }
    } finally {
      end.abort();
    }
    throw new Error("the watch has ended by itself");
  }

  /** A watch from the beginning: what there is, then a bookmark that says that this was all. */
  private watch(): Promise<Saw> {
    let first: Saw | undefined;
    return this.watching(0n, (step) => {
      if (step.kind.case === "event") {
        first ??= { first: eventType(step.kind.value.type), name: step.kind.value.cluster?.name };
      }
      if (step.kind.case === "bookmark" && step.kind.value.initialStateComplete) {
        this.revision = step.revision;
        return { ...first, complete: true };
      }
      return undefined;
    });
  }

  private async scale(): Promise<Saw> {
    const before = this.known;
    this.cluster = await this.resize(1, "");
    return {
      count: count(this.cluster),
      wished: this.cluster.status?.workerGroups["default"]?.wished,
      generations: Number(this.cluster.generation - before.generation),
    };
  }

  private resize(workers: number, etag: string): Promise<Cluster> {
    const wish = sized(workers);
    wish.name = this.known.name;
    wish.etag = etag;
    const updateMask = { paths: ["spec.worker_groups.default"] };
    return this.gateway.clusters.updateCluster(
      { cluster: wish, updateMask, requestId: randomUUID() },
      PATIENCE,
    );
  }

  /** The watch goes on where it ended: nothing of what happened meanwhile is missing. */
  private resume(): Promise<Saw> {
    const types = new Set<string>();
    return this.watching(this.revision, (step) => {
      if (step.kind.case !== "event") {
        return undefined;
      }
      if (step.revision <= this.revision) {
        throw new Error(`revision ${step.revision} was told before`);
      }
      types.add(eventType(step.kind.value.type));
      const running = step.kind.value.cluster?.status?.workerGroups["default"]?.running;
      return running === 1 ? { types: [...types].sort(), running } : undefined;
    });
  }

  /** A change that rests on what was read before the last change is refused. */
  private async conflict(): Promise<Saw> {
    const stale = await refusal(this.resize(0, this.firstEtag));
    const now = await this.gateway.clusters.getCluster({ name: this.known.name }, PATIENCE);
    return { stale, current: count(await this.resize(0, now.etag)) };
  }

  private exists(): Promise<Saw> {
    const again = clone(CreateClusterRequestSchema, this.asked);
    again.requestId = randomUUID();
    return refusal(this.gateway.clusters.createCluster(again, PATIENCE));
  }

  /** Two clusters on pages of one: the newest comes first. */
  private async pages(): Promise<Saw> {
    const { clusters } = this.gateway;
    const second = await clusters.createCluster(
      { clusterId: `${this.id}-second`, cluster: sized(0), requestId: randomUUID() },
      PATIENCE,
    );
    const names: string[] = [];
    let largest = 0;
    let pageToken = "";
    do {
      const page = await clusters.listClusters({ pageSize: 1, pageToken }, PATIENCE);
      largest = Math.max(largest, page.clusters.length);
      for (const one of page.clusters) {
        if (one.uid === this.known.uid || one.uid === second.uid) {
          names.push(one.name);
        }
      }
      pageToken = page.nextPageToken;
    } while (pageToken);
    await clusters.stopCluster({ name: second.name }, PATIENCE);
    return { names, largest };
  }

  private async logs(): Promise<Saw> {
    const request = { name: this.known.name, instances: ["scheduler"] };
    const instances = new Set<string>();
    let text = "";
    for await (const piece of this.gateway.clusters.streamLogs(request, PATIENCE)) {
      instances.add(piece.instance);
      text += piece.text;
    }
    return { instances: [...instances].sort(), scheduler: text.includes("Scheduler at:") };
  }

  private async errors(): Promise<Saw> {
    const { clusters } = this.gateway;
    const get = (name: string) => clusters.getCluster({ name }, PATIENCE);
    const wrong = { clusterId: "Not an id", cluster: sized(-1) };
    return {
      invalid: await refusal(clusters.createCluster(wrong, PATIENCE)),
      missing: await refusal(get("users/-/clusters/nosuch")),
      "another's": await refusal(get("users/bob/clusters/nosuch")),
      nobody: await refusal(this.nobody.clusters.getCluster({ name: this.known.name }, PATIENCE)),
    };
  }

  /**
   * The client's own deadline ends a call: one that waits on purpose is answered just before, a watch
   * that would go on is ended.
   */
  private async deadline(): Promise<Saw> {
    const { clusters } = this.gateway;
    const began = Date.now();
    const watched = async () => {
      for await (const step of clusters.watchClusters({ clusters: [this.known.name] }, { timeoutMs: 2_000 })) {
        void step;
      }
    };
    const refused = await refusal(watched());
    return { code: refused.code, early: Date.now() - began < 30_000 };
  }

  /**
   * Connects to the scheduler itself, by TLS with the certificate that the gateway signs for a key
   * made here. The scheduler speaks first, to who has one; who has none hears nothing of it.
   */
  private async scheduler(): Promise<Saw> {
    if (this.gateway.path) {
      throw new Skipped("only HTTP passes here; Dask's own client takes a WebSocket");
    }
    const key = newKey();
    const signed = await this.gateway.credentials.generateClientCertificate(
      { name: this.known.name, publicKey: key.publicKey },
      PATIENCE,
    );
    const address = this.known.status?.endpoints?.scheduler ?? "";
    return {
      "with a certificate": await greeting(address, signed, key.privateKey),
      without: await greeting(address, signed, undefined),
    };
  }

  private async stop(): Promise<Saw> {
    const stopping = await this.gateway.clusters.stopCluster(
      { name: this.known.name, requestId: randomUUID() },
      PATIENCE,
    );
    const ended = await this.waitFor(ClusterState.STOPPED);
    return { first: state(stopping), then: state(ended), reason: ended.status?.reason };
  }
}

function sized(workers: number): Cluster {
  return create(ClusterSchema, {
    labels: { "made-by": "conformance" },
    spec: { workerGroups: { default: { size: { case: "count", value: workers } } } },
  });
}

function count(cluster: Cluster): number | undefined {
  const size = cluster.spec?.workerGroups["default"]?.size;
  return size?.case === "count" ? size.value : undefined;
}

function state(cluster: Cluster): string | undefined {
  return ClusterStateSchema.value[cluster.status?.state ?? 0]?.name;
}

function eventType(type: WatchEventType): string {
  return WatchEventTypeSchema.value[type]?.name ?? String(type);
}

/** What a refusal tells programs: its code, and what its details say. */
async function refusal(call: Promise<unknown>): Promise<Saw> {
  try {
    await call;
  } catch (error) {
    const told = ConnectError.from(error);
    const found: Saw = { code: codeName(told.code) };
    for (const info of told.findDetails(ErrorInfoSchema)) {
      found.reason = info.reason;
      found.domain = info.domain;
    }
    for (const request of told.findDetails(BadRequestSchema)) {
      found.fields = [...new Set(request.fieldViolations.map((one) => one.field))].sort();
    }
    return found;
  }
  throw new Error("the call was answered, and should have been refused");
}

function codeName(code: Code): string {
  const word = Code[code].replace(/([a-z])([A-Z])/g, "$1_$2").toUpperCase();
  return word === "CANCELED" ? "CANCELLED" : word;
}
