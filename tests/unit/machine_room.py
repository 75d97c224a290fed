"""A machine room and a scheduler that exist only in a test: they do what a step asks, late, wrongly
or not at all."""

from __future__ import annotations

import random
from dataclasses import replace

from gateway.backends.contract import Instance, Observation, Phase, Role, Started, StartFailed
from gateway.server.core.facts import AgentNews, Facts, Patience
from gateway.server.core.limits import grant
from gateway.server.core.model import (
    Adaptive,
    Cluster,
    Count,
    Spec,
    State,
    StopWish,
    Worker,
    WorkerGroup,
)
from gateway.server.core.plan import (
    Cleanup,
    ReadLog,
    StartScheduler,
    StartWorkers,
    Step,
    Stop,
    step,
)

# workers are never given up: faults here strike at random, and are over at some time
PATIENCE = Patience(backoff_s=0.1, backoff_max_s=1.0, worker_settle_s=5.0, worker_attempts=0)


def new_cluster(**groups: Count | Adaptive) -> Cluster:
    """Return a cluster that was just accepted."""
    sizes = {"default": Count(0)} | groups
    spec = Spec("local", groups={name: WorkerGroup(size) for name, size in sizes.items()})
    return Cluster("c" + "a" * 20, "alice", "etl", spec, created_at=1)


class MachineRoom:
    """Runs one cluster. `fault` is the chance that something goes wrong at each occasion."""

    def __init__(
        self,
        cluster: Cluster,
        seed: int = 0,
        fault: float = 0.0,
        patience: Patience = PATIENCE,
    ) -> None:
        self.patience = patience
        self.cluster, self.now = cluster, 1000
        self.log_read_at = 0
        self.workers: dict[str, Worker] = {}
        self.running: dict[Instance, bool] = {}  # whether its agent knows it
        self.random, self.fault = random.Random(seed), fault
        self.events: list[str] = []
        self.starts: list[Instance] = []
        self.cleaned = False
        self.connected_agent = False
        self._told: set[str] = set()
        self._facts = Facts()

    def bad(self) -> bool:
        """Whether something goes wrong this time."""
        return self.random.random() < self.fault

    def wish(self, **groups: Count | Adaptive) -> None:
        """Change the wish, as an update does."""
        spec = self.cluster.spec
        changed = {
            name: replace(spec.groups.get(name, WorkerGroup()), size=size)
            for name, size in groups.items()
        }
        spec = replace(spec, groups={**spec.groups, **changed})
        self.cluster = replace(self.cluster, spec=spec, generation=self.cluster.generation + 1)

    def wish_end(self) -> None:
        """Ask for the end, as a stop does."""
        self.cluster = replace(
            self.cluster, stop=StopWish(State.STOPPED, "STOP_REQUESTED", "asked", self.now)
        )

    def tick(self, ms: int = 200) -> Step:
        """One step: decide, store, do, and observe what came of it."""
        self.now += ms
        result = step(
            self.cluster, list(self.workers.values()), self._facts, self.now, self.patience
        )
        self.cluster = result.cluster
        for worker in result.put:
            self.workers[worker.name] = worker
        for name in result.deleted:
            del self.workers[name]
        self.events += [event.reason for event in result.events]
        self._facts = self._do(result)
        return result

    def settle(self, ticks: int = 200) -> None:
        """Step until nothing changes any more, however long one waits."""
        # steps in a row: the first may have been made of what was seen before a fault was over
        quiet = 0
        for _ in range(ticks):
            before = (self.cluster, dict(self.workers))
            result = self.tick()
            facts = self._facts
            if result.actions or facts.outcomes or before != (self.cluster, self.workers):
                quiet = 0
                continue
            if result.wake_at is None:
                quiet += 1
                if quiet == 2:
                    return
                continue
            self.now = max(self.now, result.wake_at)
        raise AssertionError(
            f"it does not settle: {self.cluster.state} {self.cluster.groups} {self.events[-10:]}"
        )

    def _do(self, result: Step) -> Facts:
        outcomes: dict[Instance, Started | StartFailed] = {}
        cleaned, agent_says = False, None
        for action in result.actions:
            match action:
                case StartScheduler(instance):
                    outcomes[instance] = self._start(instance)
                case StartWorkers(workers):
                    outcomes |= {
                        worker.instance: self._start(worker.instance) for worker in workers
                    }
                case Stop(targets):
                    for target in targets:
                        if not self.bad():
                            self.running.pop(target.instance, None)
                case Cleanup():
                    cleaned = self.cleaned = True
                case ReadLog():
                    agent_says, self.log_read_at = "", self.now
        if self.bad():
            outcomes = {}  # the server was restarted before it could take in what came of it
        if self.running and self.bad():
            living = [one for one in self.running if one.name != "scheduler"]
            nobody = Instance("", Role.WORKER, "")
            self.running.pop(self.random.choice(living or [nobody]), None)
        return Facts(
            observations=self._observe(),
            outcomes=outcomes,
            news=self._news(),
            agent_connected=self._agent(),
            heard_at=self.now + 1 if self._agent() else 0,
            cleaned=cleaned,
            agent_says=agent_says,
            log_read_at=self.log_read_at,
        )

    def _start(self, instance: Instance) -> Started | StartFailed:
        self.starts.append(instance)
        if instance.name != "scheduler" and self.bad():
            return StartFailed("no room")
        self.running.setdefault(instance, False)
        return Started(f"handle-{instance.name}")

    def _observe(self) -> dict[Instance, Observation]:
        known = [worker.instance for worker in self.workers.values()] + [
            self.cluster.scheduler_instance
        ]
        return {
            i: Observation(i, Phase.RUNNING if i in self.running else Phase.GONE)
            for i in known
            if not self.bad()
        }

    def _agent(self) -> bool:
        return self.cluster.scheduler_instance in self.running

    def _news(self) -> AgentNews | None:
        if not self._agent():
            return None
        granted = grant(self.cluster.spec, self.cluster.groups)
        names = {i.name for i in self.running if i.name != "scheduler"}
        retired = set()
        for group in self.cluster.spec.groups:
            mine = sorted(
                (n for n in names if n.rpartition("-")[0] == group),
                key=lambda n: int(n.rpartition("-")[2]),
            )
            connected = [n for n in mine if n in self.workers and self.workers[n].connected]
            retired |= set(connected[granted.desired[group] :])
        workers = frozenset(names - retired)
        return AgentNews(
            snapshot=True, address="tls://127.0.0.1:1", workers=workers, retired=frozenset(retired)
        )

    def names(self) -> list[str]:
        """Return the workers that run and are connected."""
        return sorted(name for name, worker in self.workers.items() if worker.connected)


def worker(cluster: Cluster, name: str, **fields: object) -> Worker:
    """Return a worker of a cluster."""
    return Worker(cluster.uid, name, name.rpartition("-")[0], **fields)  # type: ignore[arg-type]
