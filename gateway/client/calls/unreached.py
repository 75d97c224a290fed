"""What is said of a gateway that a call did not reach: at what address, whence that is, and whether
waiting helps."""

from __future__ import annotations

from gateway.client.calls import diagnosis, errors, forward_proxy, whence
from gateway.client.calls.client_certificate import MtlsAuth
from gateway.client.calls.settings import Settings

UNTRUSTED = "CERTIFICATE_VERIFY_FAILED"  # how OpenSSL and BoringSSL call it
# how grpcio calls an answer in HTTP/2 that is not gRPC's, and one that is not in HTTP/2
HTTP2_STATUS, NO_HTTP2 = "http2 header with status", "Failed parsing HTTP/2"


def untrusted(settings: Settings) -> errors.Unavailable:
    """Return that nobody known has signed the gateway's certificate, which will not change."""
    return errors.Unavailable(
        f"the certificate of {settings.address} is not trusted; name the CA that signed it, a PEM"
        " file, in gateway.ca-file of Dask's configuration or DASK_GATEWAY__CA_FILE"
        f"{whence.said('gateway.ca-file')}. The address is from {settings.source}",
        code="UNAVAILABLE",
    )


def no_gateway(settings: Settings, error: errors.GatewayError) -> errors.NoGateway:
    """Return that what answers knows no such call."""
    return errors.NoGateway(
        f"what answers at {settings.address} is no gateway ({error}); is the address right? It is"
        f" from {settings.source}",
        code=error.code,
    )


def after_all(settings: Settings, error: errors.Unavailable) -> errors.Unavailable:
    """Return that the gateway was not reached in all the time there was, with whence its address
    is; what the gateway itself answered stays as it is."""
    if error.reason:
        return error
    where = settings.address
    said = str(error).removeprefix(f"{where}: ")
    if NO_HTTP2 in said:
        said = "what listens there speaks HTTP/1.1 only, and its answers are not a gateway's"
    return errors.Unavailable(
        f"the gateway at {where} does not answer: {said}. The address is from {settings.source}",
        code=error.code,
        retry_after_s=error.retry_after_s,
    )


def look(settings: Settings, error: errors.Unavailable) -> None:
    """Raise Unreachable, with what would be right, if a call failed by what no waiting mends;
    AuthenticationFailed if that is its certificate. What the gateway itself answered is not
    doubted, nor what a proxy stands before. Blocks for some seconds at most."""
    if error.reason or forward_proxy.proxy_for(settings.address):
        return
    why = diagnosis.hopeless(settings.address)
    if not why and settings.transport == "grpc" and NO_HTTP2 in str(error):
        why = (
            f"what answers at {settings.address} does not speak HTTP/2, as gRPC must; where a"
            f" proxy stands before the gateway, set gateway.transport to auto"
        )
    if not why and isinstance(settings.auth, MtlsAuth):
        refused = diagnosis.certificate_refused(
            settings.address, settings.ca_file, *settings.auth.files
        )
        if refused:
            raise errors.AuthenticationFailed(
                refused, code="UNAUTHENTICATED", reason="CREDENTIALS_INVALID"
            )
    if why:
        raise errors.Unreachable(
            f"the gateway is not reached: {why} (the address is from {settings.source})",
            code="UNAVAILABLE",
        ) from None
