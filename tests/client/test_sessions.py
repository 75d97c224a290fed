"""The client signs in once and goes on with a session: made, renewed, made anew, and not at all
where the gateway has none."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from daskgateway.v1 import credential_service_pb2 as pb
from daskgateway.v1 import credential_service_pb2_grpc
from google.protobuf.duration_pb2 import Duration

from gateway import Auth, BasicAuth, Gateway, TokenAuth
from gateway.client.calls import errors, sessions
from gateway.client.calls.sessions import SignIn, When
from gateway.server.core.errors import CredentialsInvalid, NoSession, StoreUnavailable
from gateway.server.rpc.status import code_of, details_of, text_of
from gateway.wire import basic_credentials

ALICE = basic_credentials("alice", "pw")


class Servicer(credential_service_pb2_grpc.CredentialServiceServicer):
    """Knows alice by password and by sessions; notes what is shown with each call."""

    def __init__(self) -> None:
        self.shown: list[tuple[str, str]] = []
        self.living: set[str] = set()
        self.numbers = itertools.count(1)
        self.lasts_s = 3600
        self.none = False  # there are no sessions
        self.proof = ""  # what the gateway proves itself by
        self.away = 0  # so many renewals are not answered
        self.good = {ALICE}

    def _caller(self, name: str, context: grpc.ServicerContext) -> str:
        sent = str(dict(context.invocation_metadata()).get("authorization", ""))
        self.shown.append((name, sent))
        if sent not in self.good and sent.removeprefix("Bearer ") not in self.living:
            self._refuse(context, CredentialsInvalid())
        return sent

    def _refuse(self, context: Any, error: Any) -> None:
        context.set_trailing_metadata((("grpc-status-details-bin", details_of(error)),))
        context.abort(code_of(error), text_of(error))

    def _session(self) -> pb.Session:
        return pb.Session(user="alice", way="password", lasts=Duration(seconds=self.lasts_s))

    def WhoAmI(self, request: Any, context: Any) -> pb.WhoAmIResponse:
        self._caller("WhoAmI", context)
        return pb.WhoAmIResponse(user="alice")

    def CreateSession(self, request: Any, context: Any) -> pb.CreateSessionResponse:
        self._caller("CreateSession", context)
        if self.none:
            self._refuse(context, NoSession(metadata={"way": "password", "why": "never"}))
        text = f"dgw_session_{next(self.numbers)}"
        self.living.add(text)
        return pb.CreateSessionResponse(
            session=self._session(), secret=text, authenticate=self.proof
        )

    def RenewSession(self, request: Any, context: Any) -> pb.RenewSessionResponse:
        self._caller("RenewSession", context)
        if self.away:
            self.away -= 1
            self._refuse(context, StoreUnavailable())
        return pb.RenewSessionResponse(session=self._session())

    def EndSession(self, request: Any, context: Any) -> pb.EndSessionResponse:
        self.living.discard(self._caller("EndSession", context).removeprefix("Bearer "))
        return pb.EndSessionResponse()

    def CreateToken(self, request: Any, context: Any) -> pb.CreateTokenResponse:
        self._caller("CreateToken", context)
        return pb.CreateTokenResponse(secret="dgw_api_x")

    def GetSignInOptions(self, request: Any, context: Any) -> pb.GetSignInOptionsResponse:
        self.shown.append(
            ("GetSignInOptions", dict(context.invocation_metadata()).get("authorization", ""))
        )
        ways = ("basic", "jupyterhub", "kerberos")
        return pb.GetSignInOptionsResponse(
            options=[pb.SignInOption(name=one, client_way=one) for one in ways]
        )

    def count(self, name: str) -> int:
        return sum(one == name for one, _ in self.shown)


@pytest.fixture
def servicer() -> Servicer:
    """What the gateway knows."""
    return Servicer()


@pytest.fixture
def address(servicer: Servicer, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A gateway."""
    import dask

    sessions._kept.clear()
    for name in ("TOKEN", "USER", "PASSWORD"):
        monkeypatch.delenv(f"DASKGATEWAY_{name}", raising=False)
    monkeypatch.delenv("JUPYTERHUB_API_TOKEN", raising=False)
    server = grpc.server(ThreadPoolExecutor(8))
    credential_service_pb2_grpc.add_CredentialServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    settings = {"gateway.transport": "grpc", "gateway.retry-for": "1s"}
    try:
        with dask.config.set({**settings, "gateway.auth": {"token-file": None}}):
            yield f"http://127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


class Once(Auth):
    """A sign-in that is good once, with a gateway that has to prove itself."""

    session = When.FIRST

    def __init__(self, servicer: Servicer, proof: str = "") -> None:
        self.made, self._servicer, self._proof = 0, servicer, proof

    def sign_in(self, host: str) -> SignIn:
        self.made += 1
        made = Shown(f"Negotiate {self.made}", self._proof)
        self._servicer.good.add(made.header)
        return made

    def same(self) -> object:
        return ("once", id(self._servicer))


class Shown:
    """What is sent, and what has to be proved."""

    def __init__(self, header: str, proof: str) -> None:
        self.header, self._proof = header, proof

    def verify(self, told: str) -> None:
        if told != self._proof:
            raise errors.NotProved("it does not prove itself")


def test_a_password_is_shown_once_and_a_session_from_then_on(
    address: str, servicer: Servicer
) -> None:
    gateway = Gateway(address, auth=("alice", "pw"))
    for _ in range(4):
        gateway.whoami()
    assert servicer.shown == [
        ("WhoAmI", ALICE),
        ("CreateSession", ALICE),
        *[("WhoAmI", "Bearer dgw_session_1")] * 3,
    ]
    Gateway(address, auth=BasicAuth("alice", "pw")).whoami()  # who signs in alike shares it
    assert servicer.shown[-1] == ("WhoAmI", "Bearer dgw_session_1")
    assert servicer.count("CreateSession") == 1


def test_what_is_good_once_makes_a_session_before_the_first_call(
    address: str, servicer: Servicer
) -> None:
    Gateway(address, auth=Once(servicer)).whoami()
    assert servicer.shown == [
        ("CreateSession", "Negotiate 1"),
        ("WhoAmI", "Bearer dgw_session_1"),
    ]


def test_an_api_token_is_sent_with_each_call(address: str, servicer: Servicer) -> None:
    servicer.living.add("mine")
    gateway = Gateway(address, auth=TokenAuth("mine"))
    gateway.whoami()
    gateway.whoami()
    assert servicer.shown == [("WhoAmI", "Bearer mine")] * 2


def test_a_gateway_that_proves_nothing_is_told_nothing_more(
    address: str, servicer: Servicer
) -> None:
    with pytest.raises(errors.NotProved):
        Gateway(address, auth=Once(servicer, "proof")).whoami()
    assert servicer.shown == [("CreateSession", "Negotiate 1")]
    servicer.proof = "proof"
    Gateway(address, auth=Once(servicer, "proof")).whoami()


def test_a_session_that_was_taken_back_is_made_anew_and_the_call_again(
    address: str, servicer: Servicer
) -> None:
    gateway = Gateway(address, auth=("alice", "pw"))
    gateway.whoami()
    gateway.whoami()
    servicer.living.clear()
    assert gateway.whoami().user == "alice"
    assert servicer.shown[-3:] == [
        ("WhoAmI", "Bearer dgw_session_1"),
        ("CreateSession", ALICE),
        ("WhoAmI", "Bearer dgw_session_2"),
    ]


def test_a_password_that_was_changed_is_told_and_not_tried_for_ever(
    address: str, servicer: Servicer
) -> None:
    gateway = Gateway(address, auth=("alice", "pw"))
    gateway.whoami()
    gateway.whoami()
    servicer.living.clear()
    servicer.good.clear()
    with pytest.raises(errors.AuthenticationFailed, match="does not accept the user and password"):
        gateway.whoami()


def test_sessions_are_not_asked_for_again_where_there_are_none(
    address: str, servicer: Servicer
) -> None:
    servicer.none = True
    gateway = Gateway(address, auth=("alice", "pw"))
    for _ in range(4):
        gateway.whoami()
    assert servicer.count("CreateSession") == 1
    assert servicer.shown[-1] == ("WhoAmI", ALICE)


def test_a_session_is_renewed_at_half_its_time_and_its_token_stays(
    address: str, servicer: Servicer, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = Gateway(address, auth=("alice", "pw"))
    gateway.whoami()
    gateway.whoami()
    now = time.monotonic
    monkeypatch.setattr(sessions.time, "monotonic", lambda: now() + 1900)  # type: ignore[attr-defined]
    gateway.whoami()
    gateway.whoami()
    assert servicer.count("RenewSession") == 1
    assert servicer.shown[-1] == ("WhoAmI", "Bearer dgw_session_1")


def test_a_machine_that_slept_renews_too(
    address: str, servicer: Servicer, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = Gateway(address, auth=("alice", "pw"))
    gateway.whoami()
    gateway.whoami()
    now = time.time
    monkeypatch.setattr(sessions.time, "time", lambda: now() + 1900)  # type: ignore[attr-defined]
    gateway.whoami()
    assert servicer.count("RenewSession") == 1


def test_a_renewal_that_fails_is_tried_again_and_disturbs_no_call(
    address: str, servicer: Servicer, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = Gateway(address, auth=("alice", "pw"))
    gateway.whoami()
    gateway.whoami()
    servicer.away = 1
    now, ahead = time.monotonic, [1900.0]
    monkeypatch.setattr(sessions.time, "monotonic", lambda: now() + ahead[0])  # type: ignore[attr-defined]
    gateway.whoami()
    gateway.whoami()
    assert servicer.count("RenewSession") == 1
    ahead[0] += 61
    gateway.whoami()
    assert servicer.count("RenewSession") == 2


def test_a_session_that_is_over_when_it_is_to_be_renewed_is_made_anew(
    address: str, servicer: Servicer, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = Gateway(address, auth=("alice", "pw"))
    gateway.whoami()
    gateway.whoami()
    servicer.living.clear()
    now = time.monotonic
    monkeypatch.setattr(sessions.time, "monotonic", lambda: now() + 4000)  # type: ignore[attr-defined]
    assert gateway.whoami().user == "alice"
    assert servicer.shown[-1] == ("WhoAmI", "Bearer dgw_session_2")


def test_many_threads_make_one_session(address: str, servicer: Servicer) -> None:
    gateways = [Gateway(address, auth=Once(servicer)) for _ in range(8)]
    start = threading.Barrier(8)

    def call(gateway: Gateway) -> str:
        start.wait(60)
        return gateway.whoami().user

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(call, gateways)) == ["alice"] * 8
    assert servicer.count("CreateSession") == 1


def test_an_api_token_is_made_by_what_its_user_signs_in_by(
    address: str, servicer: Servicer
) -> None:
    gateway = Gateway(address, auth=("alice", "pw"))
    gateway.whoami()
    gateway.whoami()
    gateway.create_token("robot")
    assert servicer.shown[-1] == ("CreateToken", ALICE)


def test_by_what_one_may_sign_in_is_asked_without_signing_in(
    address: str, servicer: Servicer
) -> None:
    Gateway(address, auth=Once(servicer)).sign_in_options()
    assert servicer.shown == [("GetSignInOptions", "")]


def test_a_session_can_be_ended(address: str, servicer: Servicer) -> None:
    gateway = Gateway(address, auth=Once(servicer))
    gateway.whoami()
    assert gateway.connection.end_session() is True
    assert servicer.living == set()
    assert gateway.connection.end_session() is False


def test_where_nobody_is_named_the_hubs_token_is_taken_if_the_gateway_takes_such(
    address: str, servicer: Servicer, monkeypatch: pytest.MonkeyPatch
) -> None:
    servicer.living.add("of-the-hub")
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "of-the-hub")
    caller = Gateway(address).whoami()
    assert caller.source == "the environment variable JUPYTERHUB_API_TOKEN"
    assert servicer.shown == [("GetSignInOptions", ""), ("WhoAmI", "Bearer of-the-hub")]


def test_where_nothing_is_found_nobody_calls(
    address: str, servicer: Servicer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.client.calls.kerberos.has_ticket", lambda: False)
    gateway = Gateway(address)
    for _ in range(2):
        with pytest.raises(errors.AuthenticationFailed, match="nobody is named"):
            gateway.whoami()
    assert servicer.count("GetSignInOptions") == 1
