"""Versions of client and scheduler are compared when a cluster is had, before anything is sent."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest
from distributed import Client
from distributed.versions import VersionMismatchWarning

from gateway import Gateway, GatewayCluster
from gateway.client.calls import credentials
from gateway.client.dask import versions
from tests.e2e.gateway_process import PASSWORD, USER, GatewayProcess

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway that has a package compared which is none of Dask's."""
    gateway = GatewayProcess(
        tmp_path_factory.mktemp("gateway"), "c.ClusterConfig.compared_packages = ['click']"
    )
    try:
        gateway.start()
        yield gateway
    finally:
        gateway.end()


def test_a_client_of_other_versions_is_told_once_and_before_the_first_error(
    served: GatewayProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = Gateway(served.address, auth=(USER, PASSWORD))
    with warnings.catch_warnings():
        warnings.simplefilter("error", VersionMismatchWarning)
        with GatewayCluster("alike", gateway) as cluster, Client(cluster) as client:
            assert client.scheduler_info()["address"]
            assert cluster.describe().status.versions["click"] == versions.version_here("click")
            real = versions.version_here
            monkeypatch.setattr(
                versions, "version_here", lambda name: "0.1" if name == "click" else real(name)
            )
            warnings.simplefilter("always", VersionMismatchWarning)
            with warnings.catch_warnings(record=True) as heard:
                again = GatewayCluster.from_name("alike", gateway=gateway)
                with again, Client(again) as other:
                    for _ in range(3):
                        again.describe()
                        other.scheduler_info()
            (one,) = [str(w.message) for w in heard if w.category is VersionMismatchWarning]
            assert "click 0.1 here" in one
            assert f"pip install 'click=={real('click')}'" in one


def test_a_plain_client_is_told_too_and_once(
    served: GatewayProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = Gateway(served.address, auth=(USER, PASSWORD))
    with GatewayCluster("plain", gateway) as cluster:
        real = versions.version_here
        monkeypatch.setattr(
            versions, "version_here", lambda name: "0.1" if name == "click" else real(name)
        )
        monkeypatch.setattr(versions, "_told", {})  # as in a process that has no cluster object
        for expected in (1, 0):
            with warnings.catch_warnings(record=True) as heard:
                warnings.simplefilter("always", VersionMismatchWarning)
                with Client(cluster.scheduler_address, set_as_default=False) as client:
                    assert client.scheduler_info()["address"]
            said = [str(w.message) for w in heard if w.category is VersionMismatchWarning]
            assert len(said) == expected
            assert all("cluster plain" in one and "click 0.1 here" in one for one in said)


def test_it_is_told_although_nothing_else_can_be_had(
    served: GatewayProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = Gateway(served.address, auth=(USER, PASSWORD))
    monkeypatch.setattr(versions, "version_here", lambda name: "0.1")

    def fails(*given: object) -> None:
        raise OSError("what is sent is not understood")

    monkeypatch.setattr(credentials, "obtain", fails)
    with (
        pytest.warns(VersionMismatchWarning, match="msgpack 0.1 here"),
        pytest.raises(OSError, match="not understood"),
    ):
        GatewayCluster("differs", gateway)
