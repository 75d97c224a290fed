"""Two pieces of an agent's news, taken as one, come to what the two come to one after the other."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from gateway.server.core.absorb import absorb
from gateway.server.core.facts import AgentNews, Facts, Patience, merge_news
from gateway.server.core.known import Known
from gateway.server.core.model import (
    Cluster,
    GroupStatus,
    Launching,
    Scheduler,
    Spec,
    State,
    Worker,
)

UID = "c" + "a" * 20
NAMES = [f"default-{number}" for number in range(3)]
SOME = st.frozensets(st.sampled_from(NAMES))
LATER = AgentNews(
    workers=frozenset({"a"}),
    left=frozenset({"b"}),
    retired=frozenset({"c"}),
    clients=2,
    idle_since_at=3,
)


def news() -> st.SearchStrategy[AgentNews]:
    """Return news, in which some have come and gone."""
    return st.builds(
        AgentNews,
        snapshot=st.booleans(),
        address=st.sampled_from(["tls://1:1", "tls://2:2"]),
        workers=SOME,
        left=SOME,
        clients=st.integers(0, 3),
        idle_since_at=st.sampled_from([0, 10_000]),
        no_client_since_at=st.sampled_from([0, 20_000]),
        targets=st.fixed_dictionaries({"default": st.integers(0, 3)}),
    )


@given(st.lists(news(), min_size=1, max_size=4), SOME)
def test_merged_news_come_to_the_same(pieces: list[AgentNews], connected: frozenset[str]) -> None:
    begun = Cluster(
        UID,
        "alice",
        "etl",
        Spec("local"),
        state=State.ACTIVE,
        scheduler=Scheduler(Launching.RUNNING, running_at=1),
    )
    cluster = replace(begun, groups={"default": GroupStatus()})

    def known() -> Known:
        workers = {
            name: Worker(
                UID, name, "default", Launching.RUNNING, connected=name in connected, connected_at=1
            )
            for name in NAMES
        }
        return Known(cluster, workers, 50_000, Patience())

    one_by_one, at_once = known(), known()
    merged: AgentNews | None = None
    for piece in pieces:
        absorb(one_by_one, Facts(news=piece, agent_connected=True))
        merged = merge_news(merged, piece)
    absorb(at_once, Facts(news=merged, agent_connected=True))
    assert at_once.cluster == one_by_one.cluster
    assert {w.name for w in at_once.workers.values() if w.connected} == {
        w.name for w in one_by_one.workers.values() if w.connected
    }


def test_the_first_news_and_a_list_of_all_stand_alone() -> None:
    assert merge_news(None, LATER) is LATER
    snapshot = replace(LATER, snapshot=True)
    assert merge_news(replace(LATER, retired=frozenset({"x"})), snapshot) is snapshot


def test_deltas_are_added_in_their_order() -> None:
    earlier = AgentNews(
        True,
        "tls://1:1",
        "1:2",
        {"dask": "1"},
        workers=frozenset({"b", "d"}),
        left=frozenset({"a", "e"}),
        retired=frozenset({"f"}),
        clients=9,
        no_client_since_at=9,
        targets={"default": 9},
    )
    assert merge_news(earlier, LATER) == AgentNews(
        True,
        "tls://1:1",
        "1:2",
        {"dask": "1"},
        workers=frozenset({"a", "b", "d"}),  # b has come and gone
        left=frozenset({"b", "e"}),
        retired=frozenset({"c", "f"}),
        clients=2,
        idle_since_at=3,
    )
