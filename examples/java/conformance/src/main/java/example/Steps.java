package example;

import com.google.protobuf.Duration;
import com.google.protobuf.FieldMask;
import io.github.daskgateway.v1.Cluster;
import io.github.daskgateway.v1.ClusterServiceGrpc.ClusterServiceBlockingStub;
import io.github.daskgateway.v1.ClusterSpec;
import io.github.daskgateway.v1.ClusterState;
import io.github.daskgateway.v1.CreateClusterRequest;
import io.github.daskgateway.v1.GenerateClientCertificateRequest;
import io.github.daskgateway.v1.GenerateClientCertificateResponse;
import io.github.daskgateway.v1.GetClusterRequest;
import io.github.daskgateway.v1.GetSignInOptionsRequest;
import io.github.daskgateway.v1.ListClustersRequest;
import io.github.daskgateway.v1.ListClustersResponse;
import io.github.daskgateway.v1.SignInOption;
import io.github.daskgateway.v1.StopClusterRequest;
import io.github.daskgateway.v1.StreamLogsRequest;
import io.github.daskgateway.v1.StreamLogsResponse;
import io.github.daskgateway.v1.UpdateClusterRequest;
import io.github.daskgateway.v1.WaitClusterRequest;
import io.github.daskgateway.v1.WatchClustersRequest;
import io.github.daskgateway.v1.WatchClustersResponse;
import io.github.daskgateway.v1.WhoAmIRequest;
import io.github.daskgateway.v1.WorkerGroup;
import io.grpc.Context;
import io.grpc.Metadata;
import io.grpc.stub.MetadataUtils;
import java.security.KeyPair;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.UUID;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;

/** The steps of the run, and what one leaves to the next. */
final class Steps {
  private static final Metadata.Key<String> REPLAYED =
      Metadata.Key.of("x-idempotent-replay", Metadata.ASCII_STRING_MARSHALLER);

  private final Services gateway;
  private final Services nobody;
  private final String id;
  private Cluster cluster;
  private CreateClusterRequest asked;
  private String firstEtag = "";
  private long revision; // up to which the watch has told everything

  Steps(Services gateway, Services nobody, String id) {
    this.gateway = gateway;
    this.nobody = nobody;
    this.id = id;
  }

  Cluster cluster() {
    return cluster;
  }

  Map<String, Conformance.Step> all() {
    Map<String, Conformance.Step> steps = new LinkedHashMap<>();
    steps.put("sign-in", this::signIn);
    steps.put("create", this::create);
    steps.put("repeat", this::repeat);
    steps.put("wait", this::await);
    steps.put("watch", this::watch);
    steps.put("scale", this::scale);
    steps.put("resume", this::resume);
    steps.put("conflict", this::conflict);
    steps.put("exists", this::exists);
    steps.put("pages", this::pages);
    steps.put("logs", this::logs);
    steps.put("errors", this::errors);
    steps.put("deadline", this::deadline);
    steps.put("scheduler", this::scheduler);
    steps.put("stop", this::stop);
    return steps;
  }

  private Map<String, Object> signIn() {
    List<String> ways = new ArrayList<>();
    for (SignInOption option :
        nobody
            .credentials()
            .getSignInOptions(GetSignInOptionsRequest.getDefaultInstance())
            .getOptionsList()) {
      ways.add(option.getName());
    }
    String user = gateway.credentials().whoAmI(WhoAmIRequest.getDefaultInstance()).getUser();
    return Map.of("ways", ways, "user", user);
  }

  private Map<String, Object> create() {
    asked =
        CreateClusterRequest.newBuilder()
            .setParent("users/-")
            .setClusterId(id)
            .setCluster(sized(0))
            .setRequestId(UUID.randomUUID().toString())
            .build();
    Told told = told(asked);
    cluster = told.cluster;
    firstEtag = cluster.getEtag();
    return Map.of(
        "name", cluster.getName(),
        "owner", cluster.getOwner(),
        "labels", cluster.getLabelsMap(),
        "state", cluster.getStatus().getState().name(),
        "replayed", told.replayed);
  }

  /** The same call with the same request_id: its effect is answered again, nothing is made. */
  private Map<String, Object> repeat() {
    Told again = told(asked);
    CreateClusterRequest other = asked.toBuilder().setClusterId(id + "-other").build();
    return Map.of(
        "same", again.cluster.getUid().equals(cluster.getUid()),
        "replayed", again.replayed,
        "reused", Refusal.of(() -> gateway.clusters().createCluster(other)));
  }

  private record Told(Cluster cluster, boolean replayed) {}

  private Told told(CreateClusterRequest request) {
    AtomicReference<Metadata> head = new AtomicReference<>();
    AtomicReference<Metadata> trailers = new AtomicReference<>();
    Cluster made =
        gateway
            .clusters()
            .withInterceptors(MetadataUtils.newCaptureMetadataInterceptor(head, trailers))
            .createCluster(request);
    return new Told(made, "1".equals(trailers.get().get(REPLAYED)));
  }

  private Map<String, Object> await() {
    cluster = waitFor(ClusterState.CLUSTER_STATE_ACTIVE);
    return Map.of("state", cluster.getStatus().getState().name());
  }

  /** A call waits for a minute at most, so it is repeated. */
  private Cluster waitFor(ClusterState state) {
    WaitClusterRequest request =
        WaitClusterRequest.newBuilder()
            .setName(cluster.getName())
            .addStates(state)
            .setTimeout(Duration.newBuilder().setSeconds(20))
            .build();
    long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(90);
    while (System.nanoTime() < deadline) {
      Cluster now = gateway.clusters().waitCluster(request);
      if (now.getStatus().getState() == state) {
        return now;
      }
      if (now.hasStopTime()) {
        throw new IllegalStateException("it ended: " + now.getStatus().getMessage());
      }
    }
    throw new IllegalStateException("it is not " + state + " in time");
  }

  /** What is done with a watch's answers while it is open. */
  private interface Reader {
    Map<String, Object> read(Iterator<WatchClustersResponse> told);
  }

  private Map<String, Object> watching(long startRevision, Reader reader) throws Exception {
    WatchClustersRequest request =
        WatchClustersRequest.newBuilder()
            .addClusters(cluster.getName())
            .setStartRevision(startRevision)
            .build();
    try (Context.CancellableContext open = Context.current().withCancellation()) {
      return open.call(() -> reader.read(gateway.clusters().watchClusters(request)));
    }
  }

  /** A watch from the beginning: what there is, then a bookmark that says that this was all. */
  private Map<String, Object> watch() throws Exception {
    return watching(
        0,
        told -> {
          WatchClustersResponse first = told.next();
          WatchClustersResponse next = first;
          while (!next.getBookmark().getInitialStateComplete()) {
            next = told.next();
          }
          revision = next.getRevision();
          return Map.of(
              "first", first.getEvent().getType().name(),
              "name", first.getEvent().getCluster().getName(),
              "complete", true);
        });
  }

  private Map<String, Object> scale() {
    long before = cluster.getGeneration();
    cluster = resize(1, "");
    return Map.of(
        "count", cluster.getSpec().getWorkerGroupsOrThrow("default").getCount(),
        "wished", cluster.getStatus().getWorkerGroupsOrThrow("default").getWished(),
        "generations", cluster.getGeneration() - before);
  }

  private Cluster resize(int count, String etag) {
    return gateway
        .clusters()
        .updateCluster(
            UpdateClusterRequest.newBuilder()
                .setCluster(sized(count).toBuilder().setName(cluster.getName()).setEtag(etag))
                .setUpdateMask(FieldMask.newBuilder().addPaths("spec.worker_groups.default"))
                .setRequestId(UUID.randomUUID().toString())
                .build());
  }

  /** The watch goes on where it ended: nothing of what happened meanwhile is missing. */
  private Map<String, Object> resume() throws Exception {
    TreeSet<String> types = new TreeSet<>();
    return watching(
        revision,
        told -> {
          while (true) {
            WatchClustersResponse next = told.next();
            if (!next.hasEvent()) {
              continue;
            }
            if (next.getRevision() <= revision) {
              throw new IllegalStateException(next.getRevision() + " was told before");
            }
            types.add(next.getEvent().getType().name());
            var groups = next.getEvent().getCluster().getStatus().getWorkerGroupsMap();
            if (groups.containsKey("default") && groups.get("default").getRunning() == 1) {
              return Map.of("types", types, "running", 1);
            }
          }
        });
  }

  /** A change that rests on what was read before the last change is refused. */
  private Map<String, Object> conflict() {
    Map<String, Object> stale = Refusal.of(() -> resize(0, firstEtag));
    Cluster now =
        gateway
            .clusters()
            .getCluster(GetClusterRequest.newBuilder().setName(cluster.getName()).build());
    Cluster changed = resize(0, now.getEtag());
    int count = changed.getSpec().getWorkerGroupsOrThrow("default").getCount();
    return Map.of("stale", stale, "current", count);
  }

  private Map<String, Object> exists() {
    CreateClusterRequest again =
        asked.toBuilder().setRequestId(UUID.randomUUID().toString()).build();
    return Refusal.of(() -> gateway.clusters().createCluster(again));
  }

  /** Two clusters on pages of one: the newest comes first. */
  private Map<String, Object> pages() {
    Cluster second =
        gateway
            .clusters()
            .createCluster(
                CreateClusterRequest.newBuilder()
                    .setClusterId(id + "-second")
                    .setCluster(sized(0))
                    .setRequestId(UUID.randomUUID().toString())
                    .build());
    List<String> names = new ArrayList<>();
    int largest = 0;
    String token = "";
    do {
      ListClustersResponse page =
          gateway
              .clusters()
              .listClusters(
                  ListClustersRequest.newBuilder().setPageSize(1).setPageToken(token).build());
      largest = Math.max(largest, page.getClustersCount());
      for (Cluster one : page.getClustersList()) {
        if (one.getUid().equals(cluster.getUid()) || one.getUid().equals(second.getUid())) {
          names.add(one.getName());
        }
      }
      token = page.getNextPageToken();
    } while (!token.isEmpty());
    gateway
        .clusters()
        .stopCluster(StopClusterRequest.newBuilder().setName(second.getName()).build());
    return Map.of("names", names, "largest", largest);
  }

  private Map<String, Object> logs() {
    StreamLogsRequest request =
        StreamLogsRequest.newBuilder()
            .setName(cluster.getName())
            .addInstances("scheduler")
            .build();
    TreeSet<String> instances = new TreeSet<>();
    StringBuilder text = new StringBuilder();
    Iterator<StreamLogsResponse> pieces = gateway.clusters().streamLogs(request);
    while (pieces.hasNext()) {
      StreamLogsResponse piece = pieces.next();
      instances.add(piece.getInstance());
      text.append(piece.getText());
    }
    return Map.of("instances", instances, "scheduler", text.indexOf("Scheduler at:") >= 0);
  }

  private Map<String, Object> errors() {
    ClusterServiceBlockingStub clusters = gateway.clusters();
    CreateClusterRequest wrong =
        CreateClusterRequest.newBuilder().setClusterId("Not an id").setCluster(sized(-1)).build();
    return Map.of(
        "invalid", Refusal.of(() -> clusters.createCluster(wrong)),
        "missing", Refusal.of(() -> clusters.getCluster(named("users/-/clusters/nosuch"))),
        "another's", Refusal.of(() -> clusters.getCluster(named("users/bob/clusters/nosuch"))),
        "nobody", Refusal.of(() -> nobody.clusters().getCluster(named(cluster.getName()))));
  }

  /**
   * The client's own deadline ends a call: one that waits on purpose is answered just before, a
   * watch that would go on is ended.
   */
  private Map<String, Object> deadline() {
    WatchClustersRequest request =
        WatchClustersRequest.newBuilder().addClusters(cluster.getName()).build();
    long began = System.nanoTime();
    Map<String, Object> refused =
        Refusal.of(
            () ->
                gateway
                    .clusters()
                    .withDeadlineAfter(2, TimeUnit.SECONDS)
                    .watchClusters(request)
                    .forEachRemaining(step -> {}));
    boolean early = System.nanoTime() - began < TimeUnit.SECONDS.toNanos(30);
    return Map.of("code", refused.get("code"), "early", early);
  }

  /**
   * Connects to the scheduler itself, by TLS with the certificate that the gateway signs for a key
   * made here. The scheduler speaks first, to who has one; who has none hears nothing of it.
   */
  private Map<String, Object> scheduler() throws Exception {
    if (!gateway.path().isEmpty()) {
      throw new Conformance.Skipped("only HTTP passes here; Dask's own client takes a WebSocket");
    }
    KeyPair key = Scheduler.newKey();
    GenerateClientCertificateResponse signed =
        gateway
            .credentials()
            .generateClientCertificate(
                GenerateClientCertificateRequest.newBuilder()
                    .setName(cluster.getName())
                    .setPublicKey(Scheduler.pem(key.getPublic()))
                    .build());
    String address = cluster.getStatus().getEndpoints().getScheduler();
    return Map.of(
        "with a certificate", Scheduler.greeting(address, signed, key),
        "without", Scheduler.greeting(address, signed, null));
  }

  private Map<String, Object> stop() {
    Cluster stopping =
        gateway
            .clusters()
            .stopCluster(
                StopClusterRequest.newBuilder()
                    .setName(cluster.getName())
                    .setRequestId(UUID.randomUUID().toString())
                    .build());
    Cluster ended = waitFor(ClusterState.CLUSTER_STATE_STOPPED);
    return Map.of(
        "first", stopping.getStatus().getState().name(),
        "then", ended.getStatus().getState().name(),
        "reason", ended.getStatus().getReason());
  }

  private static GetClusterRequest named(String name) {
    return GetClusterRequest.newBuilder().setName(name).build();
  }

  private static Cluster sized(int count) {
    return Cluster.newBuilder()
        .putLabels("made-by", "conformance")
        .setSpec(
            ClusterSpec.newBuilder()
                .putWorkerGroups("default", WorkerGroup.newBuilder().setCount(count).build()))
        .build();
  }
}
