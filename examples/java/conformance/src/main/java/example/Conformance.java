package example;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import io.github.daskgateway.v1.Cluster;
import io.github.daskgateway.v1.StopClusterRequest;
import io.grpc.StatusRuntimeException;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.TimeUnit;

/**
 * A client of the gateway's API in Java, and one conformance run: what a client does in its life,
 * each step told as a line of JSON. The same run is written in the directories beside this one.
 *
 * <p>Usage: {@code java … example.Conformance grpc|connect CLUSTER-ID}. DASKGATEWAY_ADDRESS,
 * DASKGATEWAY_USER and DASKGATEWAY_PASSWORD say where the gateway is and who calls;
 * DASKGATEWAY_CA_FILE names a CA beside those of the system.
 */
public final class Conformance {
  private static final Gson JSON = new GsonBuilder().disableHtmlEscaping().create();

  /** A step that cannot be taken by this way. */
  static final class Skipped extends Exception {
    Skipped(String why) {
      super(why);
    }
  }

  /** One step; it returns what it has seen, the same in every language. */
  interface Step {
    Map<String, Object> take() throws Exception;
  }

  private Conformance() {}

  public static void main(String[] words) {
    if (words.length != 2 || !(words[0].equals("grpc") || words[0].equals("connect"))) {
      System.err.println("usage: conformance grpc|connect CLUSTER-ID");
      System.exit(2);
    }
    boolean whole;
    try (Services gateway = Services.open(words[0], true);
        Services nobody = Services.open(words[0], false)) {
      whole = run(gateway, new Steps(gateway, nobody, words[1]));
    } catch (IllegalArgumentException error) {
      System.err.println(error.getMessage());
      whole = false;
    }
    System.exit(whole ? 0 : 1);
  }

  private static boolean run(Services gateway, Steps steps) {
    try {
      for (Map.Entry<String, Step> step : steps.all().entrySet()) {
        Map<String, Object> line = new LinkedHashMap<>();
        line.put("step", step.getKey());
        line.put("ok", true);
        try {
          line.put("saw", step.getValue().take());
        } catch (Skipped skipped) {
          line.put("skipped", skipped.getMessage());
        } catch (Exception error) {
          line.put("ok", false);
          line.put("error", error.toString());
        }
        System.out.println(JSON.toJson(line));
        if (line.get("ok").equals(false)) {
          return false;
        }
      }
      return true;
    } finally {
      leaveNothing(gateway, steps.cluster());
    }
  }

  /** After a step that failed the cluster must not live on. */
  private static void leaveNothing(Services gateway, Cluster cluster) {
    if (cluster == null) {
      return;
    }
    try {
      gateway
          .clusters()
          .withDeadlineAfter(10, TimeUnit.SECONDS)
          .stopCluster(StopClusterRequest.newBuilder().setName(cluster.getName()).build());
    } catch (StatusRuntimeException gone) {
      // the step has told what is wrong
    }
  }
}
