"""The program that skein and its driver live in: `python -m gateway.backends.yarn.host DESCRIPTOR`.

skein blocks, and its driver is a JVM. Both are kept out of the server's process: this one reads
requests, a JSON object a line, from the socket that it is given, works on a few at a time, and
answers each by its number. It ends with that socket, and the driver with it.
"""

from __future__ import annotations

import json
import os
import pathlib
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import skein
from skein import exceptions as wrong
from skein import kv

from gateway.backends.local.proc import identify
from gateway.files import write_kept

NAMES = "name/"  # begins the keys by which an application's containers have their names
MOST_TIMEOUTS = 2  # in a row: then the driver is taken for hung
READY_AFTER_S, MOST_READY = 5.0, 4  # credentials that are made before a cluster needs them
MOST_WORDS = 400  # of a driver that did not start, which are told on
MOST_CLIENTS = 1000  # connections to application masters that are kept
TOO_LATE = "skein's process had so much to do that it did not begin with this in time"
STATES = ("WAITING", "REQUESTED", "RUNNING", "SUCCEEDED", "FAILED", "KILLED")


class _Timed:
    """Gives every call of skein a deadline; before skein's own class among the bases."""

    deadline_s = 30.0
    submit_s = 60.0  # of a submission, which brings files to HDFS
    wanted = threading.local()  # `until`, on the monotonic clock: whoever asked waits no longer

    def _call(self, method: str, request: Any, timeout: float | None = None) -> Any:
        longest = self.submit_s if method == "submit" else self.deadline_s
        left_s = getattr(self.wanted, "until", float("inf")) - time.monotonic()
        longest = max(0.1, min(longest, left_s))
        return super()._call(method, request, timeout=timeout or longest)  # type: ignore[misc]


class _Driver(_Timed, skein.Client):  # type: ignore[misc]
    pass


class _Master(_Timed, skein.ApplicationClient):  # type: ignore[misc]
    pass


class NoDriver(Exception):
    """skein's driver cannot be started; what was to be asked was asked of nobody."""


class Host:
    """The driver, and the application masters that were spoken to lately."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = settings
        self._starting = threading.Lock()
        self._driver: Any = None
        self._timeouts = 0
        self._masters: dict[tuple[str, str], Any] = {}
        self.ready: list[Any] = []  # credentials that nobody has yet
        _Timed.deadline_s = float(settings["deadline_s"])
        _Timed.submit_s = float(settings["submit_s"])

    def make_ready(self) -> None:
        """Make credentials for a cluster to come."""
        if len(self.ready) < MOST_READY:
            self.ready.append(skein.Security.new_credentials())

    # The driver

    def driver(self) -> Any:
        """Return the driver, started if it does not run."""
        with self._starting:
            if self._driver is not None and self._driver._proc.poll() is not None:
                self._end(self._driver)
            if self._driver is None:
                log = pathlib.Path(self._settings["log"])
                if log.exists():
                    log.replace(log.with_suffix(".old"))
                # skein waits for its JVM for ever
                watch = threading.Timer(float(self._settings["start_s"]), give_up)
                watch.daemon = True
                watch.start()
                try:
                    self._driver = _Driver(
                        security=skein.Security.new_credentials(),
                        keytab=self._settings.get("keytab") or None,
                        principal=self._settings.get("principal") or None,
                        log=str(log),
                        java_options=self._settings["java_options"],
                    )
                except Exception as error:  # of any kind: no Java, no class path, no ticket
                    raise NoDriver(
                        f"skein's driver does not start: {error}; {last_words(log)}"
                    ) from None
                finally:
                    watch.cancel()
                self._timeouts = 0
                self._record()
            return self._driver

    def runs(self) -> bool:
        """Whether a driver runs: else the next call starts one first."""
        driver = self._driver
        return driver is not None and driver._proc.poll() is None

    def _record(self) -> None:
        """Keep who we are, so that the next server can end what outlives this one."""
        pids = [os.getpid(), self._driver._proc.pid]
        text = " ".join(str(found) for pid in pids if (found := identify(pid)))
        write_kept(pathlib.Path(self._settings["record"]), text.encode())

    def _end(self, driver: Any) -> None:
        driver._proc.kill()
        driver._proc.wait()
        driver._proc.stdin.close()
        if self._driver is driver:
            self._driver = None

    def close(self) -> None:
        """End the driver."""
        if self._driver is not None:
            self._end(self._driver)

    def ask(self, work: Callable[[Any], Any]) -> Any:
        """Do something with the driver; one that is dead or hung is ended, and the next call starts
        another."""
        driver = self.driver()
        try:
            answer = work(driver)
        except wrong.TimeoutError:
            with self._starting:
                self._timeouts += 1
                if self._timeouts >= MOST_TIMEOUTS and self._driver is driver:
                    self._end(driver)
            raise
        except wrong.ConnectionError:
            with self._starting:
                if self._driver is driver:
                    self._end(driver)
            raise
        self._timeouts = 0
        return answer

    def master(self, said: Mapping[str, Any]) -> Any:
        """Return a connection to an application master."""
        key = said["application"], said["address"]
        if key not in self._masters:
            while len(self._masters) >= MOST_CLIENTS:
                self._masters.pop(next(iter(self._masters)), None)
            self._masters[key] = _Master(key[1], key[0], security=_security(said["security"]))
        return self._masters[key]


def last_words(log: pathlib.Path) -> str:
    """Return the end of what a driver has printed, whatever that is."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - MOST_WORDS))
            text = file.read(MOST_WORDS).decode(errors="replace")
    except OSError:
        text = ""
    shown = " ".join("".join(one if one.isprintable() else " " for one in text).split())
    return f"its log ends with: {shown}" if shown else "its log is empty"


def give_up() -> None:
    """End this process and its children: the driver does not start."""
    print("skein's driver does not start: see driver.log", file=sys.stderr, flush=True)
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
                if int(parent) == os.getpid():
                    os.kill(int(entry.name), signal.SIGKILL)
            except OSError:
                continue
    os._exit(3)


# What can be asked for


def _start(host: Host, said: Mapping[str, Any]) -> object:
    host.driver()
    return {}


def _credentials(host: Host, said: Mapping[str, Any]) -> object:
    """Return credentials; those for the next cluster are made when nobody waits for them."""
    try:
        made = host.ready.pop()
    except IndexError:
        made = skein.Security.new_credentials()
    later = threading.Timer(READY_AFTER_S, host.make_ready)
    later.daemon = True
    later.start()
    return {"certificate": made.cert_bytes.decode(), "key": made.key_bytes.decode()}


def _submit(host: Host, said: Mapping[str, Any]) -> object:
    specification = _specification(said["specification"])
    return {"application": host.ask(lambda driver: driver.submit(specification))}


def _kill_application(host: Host, said: Mapping[str, Any]) -> object:
    host.ask(lambda driver: driver.kill_application(said["application"], user=said["user"]))
    return {}


def _containers(host: Host, said: Mapping[str, Any]) -> object:
    master = host.master(said)
    names = master.kv.get_prefix(NAMES)
    return {
        "containers": [
            {
                "id": one.id,
                "service": one.service_name,
                "state": str(one.state),
                "container": one.yarn_container_id or "",
                "node": one.yarn_node_http_address or "",
                "message": one.exit_message or "",
            }
            for one in master.get_containers(states=STATES)
        ],
        "names": {
            key[len(NAMES) :]: value.decode(errors="replace") for key, value in names.items()
        },
    }


def _add(host: Host, said: Mapping[str, Any]) -> object:
    """Add containers: which will have which name is written down before there are any.

    A request of skein's has the priority of the one that was answered last. YARN keeps one size a
    priority, so if the old request is taken back in the same breath, and was for another size, the
    new one is lost. Where there are two sizes, a spare request, which is taken back, goes first.
    """
    master, service, items = host.master(said), said["service"], said["items"]
    spare = master.add_container(service) if said["spare"] else None
    there = master.get_containers(services=[service], states=STATES)
    first = max((one.instance for one in there), default=-1) + 1
    names = [
        kv.put(f"{NAMES}{service}_{first + number}", item["name"].encode())
        for number, item in enumerate(items)
    ]
    master.kv.transaction(on_success=names)
    added = []
    for number, item in enumerate(items):
        made = master.add_container(service, env=item["env"])
        if made.instance != first + number:  # somebody else has added one
            master.kv[f"{NAMES}{made.id}"] = item["name"].encode()
        added.append(made.id)
    if spare is not None:
        _end_container(master, spare.id)
    return {"containers": added}


def _end_container(master: Any, name: str) -> None:
    try:
        master.kill_container(name)
    except (KeyError, ValueError):
        pass  # it has ended


def _kill(host: Host, said: Mapping[str, Any]) -> object:
    master = host.master(said)
    for one in said["containers"]:
        _end_container(master, one)
    return {}


def _shut_down(host: Host, said: Mapping[str, Any]) -> object:
    host.master(said).shutdown(said["status"], said["text"])
    return {}


OPERATIONS: Mapping[str, Callable[[Host, Mapping[str, Any]], object]] = {
    "start": _start,
    "credentials": _credentials,
    "submit": _submit,
    "kill_application": _kill_application,
    "containers": _containers,
    "add": _add,
    "kill": _kill,
    "shut_down": _shut_down,
}


def _security(said: Mapping[str, str]) -> Any:
    return skein.Security(cert_bytes=said["certificate"], key_bytes=said["key"])


def _resources(said: Mapping[str, Any]) -> Any:
    return skein.Resources(
        memory=said["memory_mb"],
        vcores=said["vcores"],
        gpus=said.get("gpus", 0),
        fpgas=said.get("fpgas", 0),
    )


def _specification(said: Mapping[str, Any]) -> Any:
    services = {
        name: skein.Service(
            resources=_resources(one["resources"]),
            script=one["script"],
            instances=one["instances"],
            env=one["env"],
            files={
                target: skein.File(file["source"], visibility=file["visibility"])
                for target, file in one["files"].items()
            },
            node_label=one.get("node_label", ""),
            max_restarts=0,
            allow_failures=True,
        )
        for name, one in said["services"].items()
    }
    master = said["master"]
    return skein.ApplicationSpec(
        name=said["name"],
        queue=said["queue"],
        user=said["user"],
        node_label=said["node_label"],
        tags=set(said["tags"]),
        file_systems=said["file_systems"],
        max_attempts=said["max_attempts"],
        acls=skein.ACLs(
            enable=True, view_users=said["view_users"], modify_users=said["modify_users"]
        )
        if said["view_users"] or said["modify_users"]
        else None,
        services=services,
        master=skein.Master(
            resources=_resources(master["resources"]),
            script=master["script"],
            env=master["env"],
            security=_security(said["security"]),
        ),
    )


# The socket


def answer(host: Host, request: Mapping[str, Any]) -> dict[str, object]:
    """Return what a request is answered: `done`, or `failed` with its kind and words."""
    try:
        return {"done": OPERATIONS[request["operation"]](host, request)}
    except wrong.TimeoutError as error:
        kind, words = "timeout", str(error)
    except wrong.ConnectionError as error:
        kind, words = "connection", str(error)
    except (wrong.ApplicationNotRunningError, FileNotFoundError, NoDriver) as error:
        kind, words = "unavailable", str(error)
    except Exception as error:  # what skein says of any kind, it says in words
        kind, words = "refused", str(error) or type(error).__name__
    return {"failed": kind, "words": words[:8000], "driver": host.runs()}


def too_late(operation: str, left_s: float) -> bool:
    """Whether a call is not to be begun: whoever asked would not hear what came of it, and ask
    again."""
    return left_s < (_Timed.submit_s if operation == "submit" else _Timed.deadline_s) / 2


def serve(connection: socket.socket) -> None:
    """Answer requests until the socket ends; the first line are the settings."""
    lines = connection.makefile("rb")
    settings = json.loads(lines.readline())
    host = Host(settings)
    writing = threading.Lock()

    def say(number: int, said: Mapping[str, object]) -> None:
        try:
            with writing:
                connection.sendall(json.dumps({"number": number, **said}).encode() + b"\n")
        except OSError:
            pass  # the server has gone, and so will we

    def work(request: Mapping[str, Any], until: float) -> None:
        if too_late(request["operation"], until - time.monotonic()):
            late = {"failed": "unavailable", "words": TOO_LATE, "driver": host.runs()}
            say(request["number"], late)
            return
        _Timed.wanted.until = until
        say(request["number"], answer(host, request))

    threads = ThreadPoolExecutor(int(settings["threads"]), thread_name_prefix="skein")
    try:
        for line in lines:
            request = json.loads(line)
            if request["operation"] == "ping":  # whatever the threads wait for
                say(request["number"], {"done": {"driver": host.runs()}})
            else:
                threads.submit(work, request, time.monotonic() + request["within_s"])
    except OSError:
        pass
    finally:
        host.close()
        os._exit(0)  # whatever still waits for Hadoop


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
