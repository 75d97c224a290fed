"""Records as text: what many have alike is read once, and what is no record is told as such."""

from __future__ import annotations

import pytest
from hypothesis import given

from gateway.server.core.model import Cluster, Spec
from gateway.server.store.codec import decode_cluster, encode_cluster, encode_spec
from tests.store.test_stores import clusters


@given(clusters, clusters)
def test_specs_that_are_alike_are_read_once_and_others_are_not_taken_for_them(
    first: Cluster, second: Cluster
) -> None:
    known: dict[str, Spec] = {}
    texts = [(encode_cluster(one), encode_spec(one.spec)) for one in (first, second, first)]
    found = [decode_cluster(text, spec, known) for text, spec in texts]
    assert found == [first, second, first]
    assert found[0].spec is found[2].spec
    assert len(known) == len({spec for _, spec in texts})


@pytest.mark.parametrize(
    "document",
    [
        '{"uid":"c","owner":"a","cluster_id":"x","spec":{"backend":"b"}}',  # beside its own
        '{"uid":"c","owner":"a","cluster_id":"x","generation":true}',
        '{"uid":"c","owner":"a","cluster_id":"x","labels":[]}',
        '{"uid":"c","owner":"a","cluster_id":7}',
        '{"uid":"c","owner":"a"}',
        "[]",
        "7",
        "null",
        "{",
    ],
)
def test_what_is_no_cluster_is_told_as_unreadable(document: str) -> None:
    with pytest.raises(ValueError, match="not a stored Cluster"):
        decode_cluster(document, '{"backend":"noop"}')
