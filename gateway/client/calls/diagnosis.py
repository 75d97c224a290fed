"""Why a gateway is not reached, where waiting will not help: the address names no host, or speaks
TLS where it is not expected, or not where it is. Looked at once, after a call has failed."""

from __future__ import annotations

import http.client
import socket
import ssl
from urllib.parse import urlsplit

from gateway.wire import host_port

LOOK_S = 1.5  # for each look
SHOW_S = 10.0  # for one with a certificate, whose answer nothing else tells
# what a resolver says of a name that nobody has; all else may pass
NO_SUCH_NAME = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))


HTTP2_BEGIN = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")
NOT_TAKEN = (
    "no authority of the gateway's client_ca has signed it, a certificate between is missing in"
    " its file, it is not valid now, or it is not for clients (extended key usage)"
)
# alerts of TLS (RFC 8446, §6.2), as OpenSSL names them, about what a client has shown
CERTIFICATE_ALERTS = (
    ("CERTIFICATE_REQUIRED", "none was shown"),
    ("UNKNOWN_CA", "the gateway's client_ca does not name the authority that signed it"),
    ("CERTIFICATE_EXPIRED", "it has expired, or is not valid yet"),
    ("CERTIFICATE_REVOKED", "it was taken back"),
    ("BAD_CERTIFICATE", "the gateway does not verify it"),
    ("CERTIFICATE_UNKNOWN", "the gateway does not verify it"),
    ("UNSUPPORTED_CERTIFICATE", "it is not for clients (extended key usage)"),
    ("DECRYPT_ERROR", "its key is another one"),
)


def hopeless(address: str) -> str:
    """Return why no waiting will help to reach an http or https address, in a sentence that says
    what would be right; empty if it may. Blocks for 3 s at most, beside the look-up of the name."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        if error.errno in NO_SUCH_NAME:
            return f"there is no host {parts.hostname!r}; is the address {address} spelt right?"
        return ""
    except (OSError, UnicodeError):
        return ""
    where = (str(found[0][4][0]), port)
    other = "https" if parts.scheme == "http" else "http"
    right = f"{other}://{host_port(parts.hostname, port)}{parts.path}"
    if parts.scheme == "http":
        if _speaks_tls(where) and not _speaks_http(where):
            return f"{host_port(parts.hostname, port)} speaks TLS: use {right}"
    elif not _speaks_tls(where) and _speaks_http(where):
        return (
            f"{host_port(parts.hostname, port)} does not speak TLS: use {right}, or the port where"
            f" it does"
        )
    return ""


def certificate_refused(address: str, ca_file: str | None, cert: str, key: str) -> str:
    """Return why what answers at an https address does not take a client certificate, a sentence;
    empty if it does, or nobody can tell. Blocks for 20 s at most, beside the look-up of the name.

    gRPC itself tells only that the connection has ended.
    """
    parts = urlsplit(address)
    try:
        context = ssl.create_default_context(cafile=ca_file)
        context.load_cert_chain(cert, key)
        context.set_alpn_protocols(["h2"])
        with (
            socket.create_connection((parts.hostname or "", parts.port or 443), SHOW_S) as made,
            context.wrap_socket(made, server_hostname=parts.hostname) as secured,
        ):
            secured.sendall(HTTP2_BEGIN)
            if not secured.recv(1):  # gRPC's servers end the connection, and say no word
                return f"The client certificate is not taken: {NOT_TAKEN}."
    except ssl.SSLError as error:
        told = f"{error.reason or error}".upper()
        why = next((words for word, words in CERTIFICATE_ALERTS if word in told), "")
        return f"The client certificate is not taken: {why}." if why else ""
    except (OSError, ValueError):
        return ""
    return ""


def _speaks_tls(where: tuple[str, int]) -> bool:
    """Whether TLS is answered, with whatever certificate: nothing is sent inside."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection(where, LOOK_S) as made,
            context.wrap_socket(made),
        ):
            return True
    except ssl.SSLError as error:
        # an alert is TLS too: it may want a name
        return "ALERT" in str(error).upper()
    except OSError:
        return False


def _speaks_http(where: tuple[str, int]) -> bool:
    """Whether HTTP in clear text is answered by who means it: servers tell in it, too, that they
    speak TLS only."""
    connection = http.client.HTTPConnection(*where, timeout=LOOK_S)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status != 400
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
