"""The backend of Kubernetes over an API that only pretends: the suite of backends as far as nothing
need run, and what a real one does seldom."""

from __future__ import annotations

import asyncio
import dataclasses
import pathlib
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.backends.conformance import UID, Conformance, Room
from gateway.backends.contract import (
    Backend,
    BackendUnavailable,
    Instance,
    Launch,
    Phase,
    Role,
    StartFailed,
)
from gateway.backends.kubernetes import events, hooks, manifests, names
from gateway.backends.kubernetes.backend import KubernetesBackend
from gateway.backends.kubernetes.informer import Informer
from tests.backends.pretend_kubernetes import PretendKubernetes

CANNOT = {
    "programs": "it only pretends to run pods",
    "lose_files": "there are no files",
    "shown": "it runs no commands",
}


class PretendRoom(Room):
    """A backend under test, and what it talks to."""

    kube: PretendKubernetes
    backend: KubernetesBackend

    async def leave(self) -> None:
        """Close the backend, then the API."""
        await super().leave()
        await self.kube.close()


async def room_of(
    root: pathlib.Path, kind: type[KubernetesBackend] = KubernetesBackend, **settings: Any
) -> PretendRoom:
    """Return a room that is open."""
    kube = PretendKubernetes()
    await kube.open()
    given: dict[str, Any] = {
        "root": str(root / "root"),
        "kubeconfig": kube.kubeconfig(root / "kubeconfig"),
        "namespace": "dask",
        "image": "dask:1",
        "observe_interval_s": 0.2,
        "call_timeout_s": 20.0,
        "stop_grace_s": 1,
        **settings,
    }

    async def again() -> Backend:
        return kind(**given)

    async def stranger() -> Backend:
        return kind(**{**given, "root": str(root / "another")})

    class Outage:
        """While it lasts nothing answers."""

        async def __aenter__(self) -> None:
            await kube.close()

        async def __aexit__(self, *_: object) -> None:
            await kube.open()

    room = PretendRoom(
        kind(**given),
        again=again,
        stranger=stranger,
        outage=Outage,
        refused={"priority_class": "nosuch"},
        runs_programs=False,
        cannot=CANNOT,
        patience_s=60.0,
        look_s=0.05,
    )
    room.kube = kube
    await room.open()
    return room


@pytest.fixture
async def room(tmp_path: pathlib.Path) -> AsyncIterator[PretendRoom]:
    """A room for one test."""
    made = await room_of(tmp_path)
    yield made
    await made.close()


class TestPretended(Conformance):
    """Pods that only pretend to run."""

    @pytest.fixture
    async def room(self, tmp_path: pathlib.Path) -> AsyncIterator[Room]:
        made = await room_of(tmp_path)
        yield made
        await made.close()


def pod_name(room: PretendRoom, instance: Instance) -> str:
    """Return the name of a pod."""
    return names.pod_name(room.backend._tag, instance)


async def test_clusters_of_many_pods_take_few_calls(room: PretendRoom) -> None:
    """Ten of a hundred workers; what is neither a creation nor a deletion of many is rare."""
    room.kube.page = 250
    uids = [f"c{letter * 20}" for letter in "abcdefghij"]
    for uid in uids:
        await room.start(room.launch("scheduler", uid=uid))
        targets = await room.start(*(room.launch(f"default-{n}", uid=uid) for n in range(100)))
        await room.until(targets, Phase.RUNNING)
        scheduler = await room.start(room.launch("scheduler", uid=uid))
        await room.backend.stop([*targets, *scheduler])
        await room.until_gone([*targets, *scheduler])
        await room.backend.cleanup(uid)
        await room.backend.purge(uid)
    assert len(room.kube.made) == 1010
    assert len(room.kube.calls) / 1010 <= 1.2
    assert not room.kube.others or not [one for one in room.kube.others if "secrets" in one]


async def test_the_secret_of_many_that_are_alike_is_made_ready_once(
    room: PretendRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was for each worker, in another thread: a thousand of them held up the event loop."""
    made: list[Launch] = []
    digest = manifests.digest
    monkeypatch.setattr(manifests, "digest", lambda one: made.append(one) or digest(one))
    launches = [room.launch(f"default-{number}") for number in range(50)]
    other = dataclasses.replace(launches[-1], env={**launches[-1].env, "OTHER": "1"})
    await room.start(*launches[:-1], other)
    assert made == [launches[0], other]


async def test_a_busy_api_is_asked_again(room: PretendRoom) -> None:
    room.kube.refusals = [(429, "TooManyRequests", "later")] * 3
    await room.running(room.launch())
    assert room.kube.made == [pod_name(room, room.launch().instance)]


@pytest.mark.parametrize(
    ("refusal", "words", "permanent"),
    [
        ((403, "Forbidden", "exceeded quota: q, used: pods=3"), "a quota of its namespace", False),
        ((403, "Forbidden", 'violates PodSecurity "restricted:latest"'), "violates", True),
        ((422, "Invalid", "spec.containers[0].image: Required value"), "Required value", True),
        ((409, "AlreadyExists", "object is being deleted: pods x"), "still being deleted", False),
    ],
)
async def test_a_refusal_is_told_and_may_pass(
    room: PretendRoom, refusal: tuple[int, str, str], words: str, permanent: bool
) -> None:
    room.kube.refusals = [refusal]
    (outcome,) = (await room.backend.start([room.launch()])).values()
    assert isinstance(outcome, StartFailed)
    assert words in outcome.message
    assert outcome.permanent is permanent


async def test_a_right_that_is_lacking_is_no_fault_of_the_cluster(room: PretendRoom) -> None:
    words = 'pods is forbidden: User "x" cannot create resource "pods" in API group ""'
    room.kube.refusals = [(403, "Forbidden", words)]
    with pytest.raises(BackendUnavailable, match="lacks a right in Kubernetes"):
        await room.backend.start([room.launch()])
    await room.running(room.launch())


async def test_somebody_elses_pod_of_the_same_name_is_not_adopted(room: PretendRoom) -> None:
    name = pod_name(room, room.launch().instance)
    metadata = {"name": name, "namespace": "dask", "uid": "x", "labels": {}}
    room.kube.pods["dask", name] = {"metadata": metadata, "spec": {}, "status": {}}
    room.kube.tell("ADDED", room.kube.pods["dask", name])
    (outcome,) = (await room.backend.start([room.launch()])).values()
    assert isinstance(outcome, StartFailed)
    assert "not this gateway's" in outcome.message
    assert ("dask", name) in room.kube.pods


async def test_an_end_is_told_with_code_and_words_and_its_pod_is_removed(
    room: PretendRoom,
) -> None:
    (target,) = await room.running(room.launch())
    name = pod_name(room, target.instance)
    ended = {"exitCode": 3, "reason": "Error", "message": "no module named numpy"}
    room.kube.status("dask", name, {"terminated": ended}, "Failed")
    (seen,) = (await room.until_gone([target])).values()
    assert (seen.exit_code, seen.message) == (3, "exit code 3: no module named numpy")
    async with asyncio.timeout(30):
        while ("dask", name) in room.kube.pods:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    (again,) = (await room.backend.observations([target])).values()
    assert again == seen


HOOKED = {"container_fields": {"lifecycle": {"postStart": {"exec": {"command": ["false"]}}}}}
HOOK_FAILED = {
    "reason": "FailedPostStartHook",
    "message": "PostStartHook failed",
    "lastTimestamp": "2026-11-28T08:00:01Z",
}
BY_HOOK = "its postStart hook failed, so its node ended it (FailedPostStartHook): PostStartHook"


@pytest.mark.parametrize(
    ("hook", "event", "code", "words"),
    [
        (True, True, 137, f"{BY_HOOK} failed; it was ended by SIGKILL"),
        (True, True, 0, f"{BY_HOOK} failed"),  # its process did as SIGTERM says: no good end
        (True, False, 137, "it was ended by SIGKILL"),
        (False, False, 137, "it was ended by SIGKILL"),
    ],
    ids=["killed", "ended well", "another reason", "without a hook"],
)
async def test_a_hook_that_fails_is_told_as_why_its_pod_ended(
    room: PretendRoom, hook: bool, event: bool, code: int, words: str
) -> None:
    (target,) = await room.running(room.launch(options=HOOKED if hook else {}))
    name = pod_name(room, target.instance)
    room.kube.events[name] = [HOOK_FAILED] if event else []
    ended = {"exitCode": code, "reason": "Error" if code else "Completed"}
    room.kube.status("dask", name, {"terminated": ended}, "Failed" if code else "Succeeded")
    (seen,) = (await room.until_gone([target])).values()
    assert (seen.exit_code, seen.message) == (code or None, words)
    assert (("EVENTS", "/api/v1/namespaces/dask/events") in room.kube.calls) is hook


async def test_an_end_whose_events_nobody_tells_is_told_as_it_is(
    room: PretendRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of very many at once, too: their Events are not asked for."""

    async def hangs(*_: object) -> list[events.Event]:
        await asyncio.Event().wait()
        return []

    monkeypatch.setattr(events, "of_pod", hangs)
    monkeypatch.setattr(hooks, "ASK_S", 0.5)
    launches = [room.launch(f"default-{n}", options=HOOKED) for n in range(3 * hooks.AT_ONCE)]
    targets = await room.running(*launches)
    for target in targets:
        state = {"terminated": {"exitCode": 137, "reason": "Error"}}
        room.kube.status("dask", pod_name(room, target.instance), state, "Failed")
    ends = (await room.until_gone(targets)).values()
    assert {one.message for one in ends} == {"it was ended by SIGKILL"}
    assert not room.backend._hooks.asking


async def test_of_what_waits_its_events_are_shown_where_its_log_will_be(
    room: PretendRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    room.kube.schedules = False
    (target,) = await room.start(room.launch())
    name = pod_name(room, target.instance)
    pulling = {"reason": "Pulling", "lastTimestamp": "2026-11-28T08:00:02Z"}
    room.kube.events[name] = [
        {**pulling, "message": 'Pulling image "x"'},
        {**pulling, "reason": "Scheduled", "lastTimestamp": "2026-11-28T08:00:01Z"},
    ]
    expected = [
        "2026-11-28T08:00:01Z Kubernetes: Scheduled: \n",
        '2026-11-28T08:00:02Z Kubernetes: Pulling: Pulling image "x"\n',
    ]
    assert [line async for line in room.backend.logs(target)] == expected
    assert [line async for line in room.backend.logs(target, tail_lines=1)] == expected[1:]
    monkeypatch.setattr(events, "AGAIN_S", 0.01)
    followed = room.backend.logs(target, follow=True)
    assert [await anext(followed) for _ in expected] == expected
    room.kube.events[name].append({**pulling, "reason": "Pulled"})
    assert await anext(followed) == "2026-11-28T08:00:02Z Kubernetes: Pulled: \n"
    room.kube.logs[name] = "hello\n"
    room.kube.status("dask", name, {"running": {}}, "Running")
    assert await anext(followed) == "hello\n"
    await followed.aclose()  # type: ignore[attr-defined]
    assert [piece async for piece in room.backend.logs(target)] == ["hello\n"]


async def test_the_log_of_what_has_just_failed_is_kept_by_a_cleanup_that_follows_at_once(
    room: PretendRoom,
) -> None:
    """The pod was removed with its log: that of a scheduler that failed was lost."""
    (target,) = await room.running(room.launch())
    name = pod_name(room, target.instance)
    room.kube.logs[name] = "last words\n"
    ended = {"exitCode": 137, "reason": "Error", "message": ""}
    room.kube.status("dask", name, {"terminated": ended}, "Failed")
    await room.until_gone([target])
    await room.backend.cleanup(target.instance.uid)
    assert ("dask", name) not in room.kube.pods
    assert "".join([piece async for piece in room.backend.logs(target)]) == "last words\n"


async def test_what_waits_too_long_fails_with_the_reason(tmp_path: pathlib.Path) -> None:
    room = await room_of(tmp_path, start_timeout_s=1.0)
    try:
        room.kube.schedules = False
        targets = await room.start(room.launch(), room.launch("default-1"))
        waits = {"reason": "ImagePullBackOff", "message": "Back-off pulling x"}
        never = {"reason": "ErrImageNeverPull", "message": "x is not present"}
        for target, state in zip(targets, (waits, never), strict=True):
            name = pod_name(room, target.instance)
            room.kube.status("dask", name, {"waiting": state}, "Pending")
        seen = await room.until_gone(targets)
        assert seen[targets[0].instance].message == (
            "it has not started within 1 s: its image cannot be pulled (ImagePullBackOff):"
            " Back-off pulling x"
        )
        assert seen[targets[1].instance].message.startswith("its image is not on the node")
        await asyncio.sleep(0)
        assert await room.found() == []
    finally:
        await room.close()


async def test_a_watch_that_is_too_old_lists_anew(room: PretendRoom) -> None:
    targets = await room.running(room.launch())
    informer = room.backend._informers["dask"]
    room.kube.oldest = room.kube.version + 1000
    informer.cache.version = "1"
    assert room.outage is not None
    async with room.outage():
        room.kube.remove("dask", pod_name(room, targets[0].instance))
    await room.until_gone(targets)
    room.kube.oldest = 0
    await room.running(room.launch("default-1"))


class LyingInformer(Informer):
    """Its watch is late, repeats itself, plays back what is over, and lacks every fifth event."""

    chance = random.Random(7)

    async def events(self, lines: Any) -> Any:
        held: list[bytes] = []
        async for line in lines:
            if self.chance.random() < 0.2:
                continue
            held.append(line)
            yield self.chance.choice(held)
            if self.chance.random() < 0.5:
                yield line
            del held[:-50]


class LiedTo(KubernetesBackend):
    """Follows such a watch."""

    informer = LyingInformer


async def test_a_lying_watch_makes_no_extra_pod_and_ends_none(tmp_path: pathlib.Path) -> None:
    """0 -> 100 -> 0, three times, as a reconciler would do it: what is told to be gone would be
    started anew under another name, so a lie would make more pods than were asked for."""
    room = await room_of(tmp_path, LiedTo, relist_s=1.0)
    room.kube.page = 250
    try:
        for turn in range(3):
            launches = [room.launch(f"default-{turn * 100 + n}") for n in range(100)]
            targets = await room.start(*launches)
            assert await room.start(*launches) == targets
            own = {target.instance for target in targets}
            for _ in range(10):
                seen = await room.backend.observations(targets)
                told = {**room.pushed, **seen}
                assert not [
                    one for one in told.values() if one.phase is Phase.GONE and one.instance in own
                ]
                await asyncio.sleep(0.02)
            await room.until(targets, Phase.RUNNING)
            await room.backend.stop(targets)
            await room.until_gone(targets)
        assert len(room.kube.made) == 300
        assert await room.found() == []
    finally:
        await room.close()


async def test_a_cluster_of_a_user_is_in_the_users_namespace(tmp_path: pathlib.Path) -> None:
    room = await room_of(tmp_path, namespace="dask-{user}")
    try:
        launches = [
            Launch(Instance(UID, Role.SCHEDULER, "scheduler"), "alice", ("true",)),
            Launch(Instance("c" + "b" * 20, Role.SCHEDULER, "scheduler"), "Bob B", ("true",)),
        ]
        await room.start(*launches)
        assert {where for where, _ in room.kube.pods} == {
            "dask-alice",
            names.namespace("dask-{user}", "Bob B"),
        }
        await room.backend.close()
        assert room.again is not None
        room.backend = await room.again()  # type: ignore[assignment]
        await room.backend.open(room.push)
        assert len(await room.found()) == 2
        assert {one.user for one in await room.backend.find()} == {"alice", "Bob B"}
    finally:
        await room.close()


async def test_many_starts_at_a_slow_api_are_not_too_late_for_it(tmp_path: pathlib.Path) -> None:
    """Each call has its deadline from its turn on: together they take four times as long."""
    room = await room_of(tmp_path, call_timeout_s=2.0, concurrency=2)
    try:
        create = room.backend._api.call

        async def slow(method: str, path: str, *words: Any, **more: Any) -> Any:
            if method == "POST":
                async with asyncio.timeout(2.0), room.backend._api._turns:
                    await asyncio.sleep(0.4)
            return await create(method, path, *words, **more)

        room.backend._api.call = slow  # type: ignore[method-assign]
        launches = [room.launch(f"default-{n}") for n in range(20)]
        assert len(await room.start(*launches)) == 20
    finally:
        await room.close()


async def test_a_start_ends_with_what_fails_first_and_is_taken_up_when_repeated(
    tmp_path: pathlib.Path,
) -> None:
    room = await room_of(tmp_path, concurrency=1)
    try:
        await room.running(room.launch("scheduler"))
        words = 'pods is forbidden: User "x" cannot create resource "pods" in API group ""'
        launches = [room.launch(f"default-{n}") for n in range(5)]
        room.kube.refusals = [(403, "Forbidden", words)]
        with pytest.raises(BackendUnavailable):
            await room.backend.start(launches)
        assert len(room.kube.made) == 1
        await room.running(*launches)
        assert len(room.kube.made) == 6
    finally:
        await room.close()
