package example;

import io.github.daskgateway.v1.GenerateClientCertificateResponse;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.KeyPair;
import java.security.KeyPairGenerator;
import java.security.KeyStore;
import java.security.PublicKey;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.security.spec.ECGenParameterSpec;
import java.util.Base64;
import java.util.List;
import javax.net.ssl.KeyManager;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SNIHostName;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.TrustManagerFactory;

/** The TLS of one cluster's scheduler, which is reached by its name (SNI). */
final class Scheduler {
  private static final char[] NO_PASSWORD = new char[0];
  private static final int PATIENCE_MS = 30_000;

  private Scheduler() {}

  static KeyPair newKey() throws GeneralSecurityException {
    KeyPairGenerator generator = KeyPairGenerator.getInstance("EC");
    generator.initialize(new ECGenParameterSpec("secp256r1"));
    return generator.generateKeyPair();
  }

  static String pem(PublicKey key) {
    String text = Base64.getMimeEncoder(64, new byte[] {'\n'}).encodeToString(key.getEncoded());
    return "-----BEGIN PUBLIC KEY-----\n" + text + "\n-----END PUBLIC KEY-----\n";
  }

  /**
   * Tells whether the scheduler greets.
   *
   * @param address {@code dgw://host:port/uid}
   * @param key null for no certificate
   */
  static String greeting(String address, GenerateClientCertificateResponse signed, KeyPair key)
      throws GeneralSecurityException, IOException {
    URI place = URI.create(address);
    SSLContext context = context(signed, key);
    try (Socket plain = new Socket()) {
      plain.connect(new InetSocketAddress(place.getHost(), place.getPort()), PATIENCE_MS);
      plain.setSoTimeout(PATIENCE_MS);
      String name = signed.getServerName();
      try (SSLSocket secured =
          (SSLSocket) context.getSocketFactory().createSocket(plain, name, place.getPort(), true)) {
        SSLParameters parameters = secured.getSSLParameters();
        parameters.setServerNames(List.of(new SNIHostName(name)));
        parameters.setEndpointIdentificationAlgorithm("HTTPS");
        secured.setSSLParameters(parameters);
        secured.startHandshake();
        try {
          return secured.getInputStream().read() >= 0 ? "greeted" : "refused";
        } catch (IOException refused) {
          return "refused";
        }
      }
    }
  }

  private static SSLContext context(GenerateClientCertificateResponse signed, KeyPair key)
      throws GeneralSecurityException, IOException {
    KeyStore trusted = KeyStore.getInstance("PKCS12");
    trusted.load(null, null);
    trusted.setCertificateEntry("ca", certificates(signed.getCaCertificate())[0]);
    TrustManagerFactory trust =
        TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
    trust.init(trusted);
    KeyManager[] mine = new KeyManager[0];
    if (key != null) {
      KeyStore own = KeyStore.getInstance("PKCS12");
      own.load(null, null);
      own.setKeyEntry(
          "me", key.getPrivate(), NO_PASSWORD, certificates(signed.getCertificate()));
      KeyManagerFactory keys =
          KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
      keys.init(own, NO_PASSWORD);
      mine = keys.getKeyManagers();
    }
    SSLContext context = SSLContext.getInstance("TLS");
    context.init(mine, trust.getTrustManagers(), null);
    return context;
  }

  private static Certificate[] certificates(String pem) throws GeneralSecurityException {
    return CertificateFactory.getInstance("X.509")
        .generateCertificates(new ByteArrayInputStream(pem.getBytes(StandardCharsets.US_ASCII)))
        .toArray(new Certificate[0]);
  }
}
