package example;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;
import com.google.protobuf.Any;
import com.google.protobuf.ByteString;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.protobuf.MessageOrBuilder;
import com.google.protobuf.util.JsonFormat;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.Context;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.grpc.protobuf.StatusProto;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.net.http.HttpTimeoutException;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.KeyStore;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.util.Base64;
import java.util.Locale;
import java.util.concurrent.Executor;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/**
 * A channel for generated stubs that speaks Connect's JSON over HTTP/1.1, where gRPC does not pass:
 * unary calls, and calls that stream their answers (connectrpc.com/docs/protocol).
 */
final class ConnectChannel extends Channel {
  private static final int LAST = 2; // flag of the envelope that tells how a stream has ended
  private static final String TRAILER = "trailer-";
  private static final long GRACE_MS = 5_000; // for the gateway's own word on a deadline

  private final URI address;
  private final HttpClient http;

  /** {@code caFile} may be empty: then the system's authorities are believed. */
  ConnectChannel(URI address, String caFile) {
    this.address = address;
    HttpClient.Builder builder = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1);
    if (!caFile.isEmpty()) {
      builder.sslContext(trusting(caFile));
    }
    http = builder.build();
  }

  @Override
  public String authority() {
    return address.getAuthority();
  }

  @Override
  public <Q, A> ClientCall<Q, A> newCall(MethodDescriptor<Q, A> method, CallOptions options) {
    return new Call<>(method, options);
  }

  private final class Call<Q, A> extends ClientCall<Q, A> {
    private final MethodDescriptor<Q, A> method;
    private final CallOptions options;
    private final Executor executor;
    private final Semaphore wanted = new Semaphore(0);
    private final AtomicBoolean closed = new AtomicBoolean();
    private Listener<A> listener;
    private Metadata headers;
    private Q asked;
    private volatile boolean cancelled;
    private volatile Thread worker;
    private volatile InputStream body;

    Call(MethodDescriptor<Q, A> method, CallOptions options) {
      this.method = method;
      this.options = options;
      this.executor = options.getExecutor() == null ? Runnable::run : options.getExecutor();
    }

    @Override
    public void start(Listener<A> listener, Metadata headers) {
      this.listener = listener;
      this.headers = headers;
      Context.current().addListener(context -> cancel("the caller has ended it", null), Runnable::run);
    }

    @Override
    public void request(int count) {
      wanted.release(count);
    }

    @Override
    public void sendMessage(Q message) {
      asked = message;
    }

    @Override
    public void halfClose() {
      worker = new Thread(this::run, "connect");
      worker.setDaemon(true);
      worker.start();
    }

    @Override
    public void cancel(String why, Throwable cause) {
      cancelled = true;
      end(Status.CANCELLED.withDescription(why).withCause(cause), new Metadata());
      try {
        InputStream open = body;
        if (open != null) {
          open.close();
        }
      } catch (IOException gone) {
        // it is to be gone
      }
      Thread running = worker;
      if (running != null) {
        running.interrupt();
      }
    }

    private void end(Status status, Metadata trailers) {
      if (closed.compareAndSet(false, true)) {
        executor.execute(() -> listener.onClose(status, trailers));
      }
    }

    private void run() {
      try {
        if (method.getType() == MethodDescriptor.MethodType.UNARY) {
          unary();
        } else {
          stream();
        }
      } catch (HttpTimeoutException late) {
        end(Status.DEADLINE_EXCEEDED, new Metadata());
      } catch (IOException | RuntimeException failed) {
        end(Status.UNAVAILABLE.withDescription(failed.toString()), new Metadata());
      } catch (InterruptedException interrupted) {
        end(Status.CANCELLED, new Metadata());
      }
    }

    private void unary() throws IOException, InterruptedException {
      byte[] message = written(asked).getBytes(StandardCharsets.UTF_8);
      HttpResponse<InputStream> answer = post("application/json", message);
      String text = new String(answer.body().readAllBytes(), StandardCharsets.UTF_8);
      if (answer.statusCode() != 200) {
        refuse(error(answer.statusCode(), text));
        return;
      }
      deliver(text);
      Metadata trailers = new Metadata();
      answer
          .headers()
          .map()
          .forEach(
              (name, values) -> {
                String key = name.toLowerCase(Locale.ROOT);
                if (key.startsWith(TRAILER)) {
                  trailers.put(ascii(key.substring(TRAILER.length())), values.get(0));
                }
              });
      end(Status.OK, trailers);
    }

    private void stream() throws IOException, InterruptedException {
      byte[] message = written(asked).getBytes(StandardCharsets.UTF_8);
      ByteArrayOutputStream envelope = new ByteArrayOutputStream();
      DataOutputStream out = new DataOutputStream(envelope);
      out.writeByte(0);
      out.writeInt(message.length);
      out.write(message);
      HttpResponse<InputStream> answer =
          post("application/connect+json", envelope.toByteArray());
      if (answer.statusCode() != 200) {
        byte[] told = answer.body().readAllBytes();
        refuse(error(answer.statusCode(), new String(told, StandardCharsets.UTF_8)));
        return;
      }
      DataInputStream in = new DataInputStream(answer.body());
      while (true) {
        int flags = in.readUnsignedByte();
        String text = new String(in.readNBytes(in.readInt()), StandardCharsets.UTF_8);
        if ((flags & LAST) != 0) {
          JsonObject last = JsonParser.parseString(text).getAsJsonObject();
          if (last.has("error")) {
            refuse(last.getAsJsonObject("error"));
          } else {
            end(Status.OK, new Metadata());
          }
          return;
        }
        deliver(text);
      }
    }

    private HttpResponse<InputStream> post(String kind, byte[] content)
        throws IOException, InterruptedException {
      HttpRequest.Builder request =
          HttpRequest.newBuilder(URI.create(base() + "/" + method.getFullMethodName()))
              .header("Content-Type", kind)
              .header("Connect-Protocol-Version", "1")
              .POST(HttpRequest.BodyPublishers.ofByteArray(content));
      for (String name : headers.keys()) {
        if (!name.endsWith(Metadata.BINARY_HEADER_SUFFIX)) {
          request.header(name, headers.get(ascii(name)));
        }
      }
      if (options.getDeadline() != null) {
        long left = Math.max(1, options.getDeadline().timeRemaining(TimeUnit.MILLISECONDS));
        request.header("Connect-Timeout-Ms", Long.toString(left));
        request.timeout(java.time.Duration.ofMillis(left + GRACE_MS));
      }
      HttpResponse<InputStream> answer =
          http.send(request.build(), HttpResponse.BodyHandlers.ofInputStream());
      body = answer.body();
      return answer;
    }

    private void deliver(String text) throws IOException, InterruptedException {
      A answer = read(text);
      wanted.acquire();
      executor.execute(
          () -> {
            if (!cancelled) {
              listener.onMessage(answer);
            }
          });
    }

    @SuppressWarnings("unchecked")
    private A read(String text) throws InvalidProtocolBufferException {
      var kind = (MethodDescriptor.PrototypeMarshaller<A>) method.getResponseMarshaller();
      Message.Builder builder = ((Message) kind.getMessagePrototype()).newBuilderForType();
      JsonFormat.parser().ignoringUnknownFields().merge(text, builder);
      return (A) builder.build();
    }

    private void refuse(JsonObject told) {
      String word = told.has("code") ? told.get("code").getAsString() : "unknown";
      String name = word.equals("canceled") ? "CANCELLED" : word.toUpperCase(Locale.ROOT);
      com.google.rpc.Status.Builder status =
          com.google.rpc.Status.newBuilder().setCode(Status.Code.valueOf(name).value());
      if (told.has("message")) {
        status.setMessage(told.get("message").getAsString());
      }
      if (told.has("details")) {
        for (JsonElement one : told.getAsJsonArray("details")) {
          JsonObject detail = one.getAsJsonObject();
          byte[] value = Base64.getDecoder().decode(detail.get("value").getAsString());
          status.addDetails(
              Any.newBuilder()
                  .setTypeUrl("type.googleapis.com/" + detail.get("type").getAsString())
                  .setValue(ByteString.copyFrom(value)));
        }
      }
      Throwable refused = StatusProto.toStatusException(status.build());
      end(Status.fromThrowable(refused), Status.trailersFromThrowable(refused));
    }
  }

  private String base() {
    return address.toString().replaceAll("/$", "");
  }

  private static Metadata.Key<String> ascii(String name) {
    return Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER);
  }

  private static String written(Object message) throws InvalidProtocolBufferException {
    return JsonFormat.printer().omittingInsignificantWhitespace().print((MessageOrBuilder) message);
  }

  /** Connect's error; a proxy on the way may have words of its own. */
  private static JsonObject error(int status, String text) {
    try {
      JsonElement told = JsonParser.parseString(text);
      if (told.isJsonObject() && told.getAsJsonObject().has("code")) {
        return told.getAsJsonObject();
      }
    } catch (JsonParseException none) {
      // it is none
    }
    JsonObject made = new JsonObject();
    made.addProperty("code", "unavailable");
    made.addProperty("message", "HTTP " + status);
    return made;
  }

  private static SSLContext trusting(String caFile) {
    try (InputStream file = new FileInputStream(caFile)) {
      KeyStore trusted = KeyStore.getInstance("PKCS12");
      trusted.load(null, null);
      int count = 0;
      for (Certificate one : CertificateFactory.getInstance("X.509").generateCertificates(file)) {
        trusted.setCertificateEntry("ca" + count++, one);
      }
      TrustManagerFactory trust =
          TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
      trust.init(trusted);
      SSLContext context = SSLContext.getInstance("TLS");
      context.init(null, trust.getTrustManagers(), null);
      return context;
    } catch (IOException | GeneralSecurityException error) {
      throw new IllegalArgumentException("DASKGATEWAY_CA_FILE: " + error.getMessage());
    }
  }
}
