"""Numbers, durations, amounts and addresses as people write them too: each is read, or refused in
one line that names it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy
import pytest

from gateway.client.calls import creating, forward_proxy, reading, settings

HUGE = 10**400  # no float holds it


@pytest.mark.parametrize("given", [HUGE, -HUGE, Decimal("sNaN"), Decimal("inf"), "9" * 5000])
@pytest.mark.parametrize(
    "read", [reading.count, reading.sizing, reading.number, reading.seconds, reading.amount]
)
def test_what_no_number_of_the_protocol_holds_is_refused_in_one_line(
    read: Callable[[Any, str], Any], given: Any
) -> None:
    with pytest.raises(ValueError, match=r"^size must be ") as refused:
        read(given, "size")
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("given", [HUGE, Decimal("sNaN"), Decimal("inf"), numpy.float32("nan")])
def test_an_option_must_be_finite(given: Any) -> None:
    with pytest.raises(ValueError, match=r"^cores must be finite, not"):
        reading.option(given, "cores")


@pytest.mark.parametrize(
    "given",
    [
        numpy.timedelta64(60, "s"),
        numpy.timedelta64(60 * 10**9, "ns"),  # as pandas has them
        numpy.timedelta64(60_000, "ms"),
        numpy.timedelta64(1, "m"),
        Decimal(60),
        Fraction(120, 2),
    ],
    ids=repr,
)
def test_a_duration_of_numpy_is_read_whatever_it_counts(given: Any) -> None:
    assert reading.seconds(given, "idle_timeout") == 60


@pytest.mark.parametrize(
    "given", [numpy.timedelta64(1, "M"), numpy.timedelta64(1, "Y"), numpy.timedelta64("NaT", "s")]
)
def test_a_duration_whose_length_nobody_knows_is_refused(given: Any) -> None:
    with pytest.raises(ValueError, match=r"^idle_timeout must be a number of seconds"):
        reading.seconds(given, "idle_timeout")


@pytest.mark.parametrize("given", ["", " ", "1e400", "9" * 5000 + " GiB", "1,5 GiB"])
def test_what_is_no_amount_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match=r"^memory must be a number from 0, or a text such as"):
        reading.amount(given, "memory")


def test_two_numbers_of_numpy_are_bounds() -> None:
    assert reading.sizing(numpy.array([0, 10])) == (0, 10)


def test_half_a_character_is_no_text() -> None:
    with pytest.raises(ValueError, match=r"^image must be a text"):
        reading.option("\ud800", "image")
    with pytest.raises(ValueError, match=r"^name must be a text"):
        reading.text("a\udcff", "name")


@pytest.mark.parametrize(
    "given",
    [
        "http://host:99999",
        "host:port",
        "https:host",
        "http:/host",
        "http//host",
        "http://ho st",
        "http://host:0",
        "http://[::1",
        "http://host:80:80",
        "unix:",
    ],
)
def test_what_is_no_address_is_quoted_with_what_would_be_one(given: str) -> None:
    with pytest.raises(ValueError, match=r"^not a gateway's address: .*(https://host|unix:/path)"):
        settings.normalized(given)


@pytest.mark.parametrize("given", ["https://alice:s3cret@host", "alice:s3cret@host:abc"])
def test_who_calls_stands_in_no_address(given: str) -> None:
    with pytest.raises(ValueError, match="a gateway's address") as refused:
        settings.normalized(given)
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("given", [" https://host ", "https://host\n"])
def test_what_stands_around_an_address_is_no_part_of_it(given: str) -> None:
    assert settings.normalized(given) == "https://host:443"


@pytest.mark.parametrize("text", ["http://[p", '"http://p:3128"', "http://p:0", "http://a b:1"])
def test_what_is_no_proxy_is_told_with_its_variable(text: str) -> None:
    with pytest.raises(ValueError, match=r"^HTTPS_PROXY: must look like http://proxy"):
        forward_proxy.parse(text, "HTTPS_PROXY")


@pytest.mark.parametrize("exceptions", ["10.1.", "10.1.*", "10.1.2.*", "a, 10.*"])
def test_a_network_may_be_written_by_its_beginning(exceptions: str) -> None:
    assert forward_proxy.excepted("10.1.2.3", 443, exceptions)
    assert not forward_proxy.excepted("10.11.2.3", 443, exceptions.replace("10.*", "10.1.*"))


def test_what_stands_in_the_place_of_a_section_is_not_lost() -> None:
    """Dask would put the defaults of a section in its place; one would call as somebody else."""
    code = (
        "import dask.config, gateway.client.calls.settings as settings;"
        "print(dask.config.get('gateway.auth'), dask.config.get('gateway.cluster.options'),"
        " dask.config.get('gateway.retry-for'))\n"
        "settings.resolve_auth()"
    )
    named = {"DASK_GATEWAY__AUTH": "jupyterhub", "DASK_GATEWAY__CLUSTER__OPTIONS": "[1]"}
    who = {"DASKGATEWAY_USER": "bob", "DASKGATEWAY_PASSWORD": "pw"}
    environment = {name: text for name, text in os.environ.items() if "JUPYTERHUB" not in name}
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env=environment | named | who,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.stdout == "jupyterhub [1] 30s\n", ended.stderr
    assert "JUPYTERHUB_API_TOKEN is not set" in ended.stderr


@pytest.mark.parametrize("given", ["baisc", "Jupyter-hub", "kerberoz", "jupyterhb"])
def test_a_misspelt_way_to_sign_in_is_sent_to_nobody_as_a_token(given: str) -> None:
    with pytest.raises(ValueError, match="is no way to sign in; did you mean '"):
        settings.resolve_auth(given)


def test_options_may_be_given_first_as_a_mapping_too() -> None:
    assert creating.others({"cores": 2}, None, {}) == (None, {"cores": 2}, {})
