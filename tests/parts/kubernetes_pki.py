"""The certificates and the kubeconfigs of a Kubernetes of tests: one CA for all of it."""

from __future__ import annotations

import datetime
import ipaddress
import json
import pathlib
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

USES = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
SERVICE_IP = "10.96.0.1"
CLUSTER_NAMES = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
)


class Pki:
    """A directory with keys and certificates."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        directory.mkdir(mode=0o755)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
        builder = self._builder(self._name, self._key.public_key(), self._name)
        certificate = builder.add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        ).sign(self._key, hashes.SHA256())
        self.ca = directory / "ca.crt"
        self.ca.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        service = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        (directory / "sa.key").write_bytes(_pem(service))
        (directory / "sa.pub").write_bytes(
            service.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )

    def _builder(
        self, subject: x509.Name, key: object, issuer: x509.Name
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.timezone.utc)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key)  # type: ignore[arg-type]
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=2))
        )

    def make(
        self, name: str, group: str = "", names: Sequence[str] = (), file: str = ""
    ) -> tuple[pathlib.Path, pathlib.Path]:
        """Make a certificate with its key; of a server too, if there are names and addresses."""
        file = file or name.replace(":", "-")
        key = ec.generate_private_key(ec.SECP256R1())
        subject = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
        if group:
            subject.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, group))
        builder = self._builder(x509.Name(subject), key.public_key(), self._name).add_extension(
            x509.ExtendedKeyUsage(
                [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
            ),
            critical=False,
        )
        if names:
            told = [_general(one) for one in names]
            builder = builder.add_extension(x509.SubjectAlternativeName(told), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        paths = self.directory / f"{file}.crt", self.directory / f"{file}.key"
        paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        paths[1].write_bytes(_pem(key))
        return paths

    def kubeconfig(
        self, server: str, user: str, group: str = "", namespace: str = "default"
    ) -> pathlib.Path:
        """Make the kubeconfig of a user with a certificate."""
        certificate, key = self.make(user, group)
        return self._kubeconfig(
            server,
            user.replace(":", "-"),
            {"client-certificate": str(certificate), "client-key": str(key)},
            namespace,
        )

    def token_kubeconfig(self, server: str, name: str, token: str, namespace: str) -> pathlib.Path:
        """Make the kubeconfig of who has a token."""
        return self._kubeconfig(server, name, {"token": token}, namespace)

    def _kubeconfig(
        self, server: str, name: str, user: dict[str, str], namespace: str
    ) -> pathlib.Path:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "c",
                    "cluster": {"server": server, "certificate-authority": str(self.ca)},
                }
            ],
            "users": [{"name": "u", "user": user}],
            "contexts": [
                {"name": "x", "context": {"cluster": "c", "user": "u", "namespace": namespace}}
            ],
            "current-context": "x",
        }
        path = self.directory / f"{name}.kubeconfig"
        path.write_text(json.dumps(config))
        return path


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
