package example;

import io.github.daskgateway.v1.ClusterServiceGrpc;
import io.github.daskgateway.v1.CredentialServiceGrpc;
import io.grpc.Channel;
import io.grpc.ChannelCredentials;
import io.grpc.ClientInterceptors;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.TlsChannelCredentials;
import io.grpc.stub.MetadataUtils;
import java.io.File;
import java.io.IOException;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.concurrent.TimeUnit;

/** The gateway's services, by gRPC or by Connect: the same generated stubs on another channel. */
final class Services implements AutoCloseable {
  private static final Metadata.Key<String> AUTHORIZATION =
      Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

  private final Channel channel;
  private final Runnable close;
  private final String path;

  private Services(Channel channel, Runnable close, String path) {
    this.channel = channel;
    this.close = close;
    this.path = path;
  }

  /** Opens a way to the gateway that the environment names. */
  static Services open(String way, boolean known) {
    URI address = URI.create(variable("DASKGATEWAY_ADDRESS"));
    boolean secure = "https".equals(address.getScheme());
    if (address.getHost() == null || !(secure || "http".equals(address.getScheme()))) {
      throw new IllegalArgumentException(
          "DASKGATEWAY_ADDRESS must be http://host:port or https://host:port");
    }
    String caFile = variable("DASKGATEWAY_CA_FILE");
    Channel channel;
    Runnable close = () -> {};
    if (way.equals("connect")) {
      channel = new ConnectChannel(address, caFile);
    } else {
      ManagedChannel made =
          Grpc.newChannelBuilder(
                  address.getAuthority(), secure ? secured(caFile) : InsecureChannelCredentials.create())
              .build();
      channel = made;
      close = () -> end(made);
    }
    if (known) {
      Metadata shown = new Metadata();
      shown.put(AUTHORIZATION, authorization());
      channel =
          ClientInterceptors.intercept(channel, MetadataUtils.newAttachHeadersInterceptor(shown));
    }
    return new Services(channel, close, address.getPath().replaceAll("/$", ""));
  }

  ClusterServiceGrpc.ClusterServiceBlockingStub clusters() {
    return ClusterServiceGrpc.newBlockingStub(channel).withDeadlineAfter(90, TimeUnit.SECONDS);
  }

  CredentialServiceGrpc.CredentialServiceBlockingStub credentials() {
    return CredentialServiceGrpc.newBlockingStub(channel).withDeadlineAfter(90, TimeUnit.SECONDS);
  }

  /** The path that an HTTP proxy serves the gateway below; empty elsewhere. */
  String path() {
    return path;
  }

  @Override
  public void close() {
    close.run();
  }

  private static ChannelCredentials secured(String caFile) {
    if (caFile.isEmpty()) {
      return TlsChannelCredentials.create();
    }
    try {
      return TlsChannelCredentials.newBuilder().trustManager(new File(caFile)).build();
    } catch (IOException error) {
      throw new IllegalArgumentException("DASKGATEWAY_CA_FILE: " + error.getMessage());
    }
  }

  private static void end(ManagedChannel channel) {
    try {
      channel.shutdownNow().awaitTermination(10, TimeUnit.SECONDS);
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
    }
  }

  /** What goes with every call; a token goes as "Bearer …". */
  private static String authorization() {
    String shown = variable("DASKGATEWAY_USER") + ":" + variable("DASKGATEWAY_PASSWORD");
    return "Basic "
        + Base64.getEncoder().encodeToString(shown.getBytes(StandardCharsets.UTF_8));
  }

  private static String variable(String name) {
    return System.getenv().getOrDefault(name, "");
  }
}
