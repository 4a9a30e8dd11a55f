"""The machine that is measured on: what it is, its engines, and child processes on it.

A benchmark gets fresh engines on the disk of the temporary directory, started
when it first asks; whatever it starts ends with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from services.kit.bus.migrate import migrate
from services.kit.settings import KafkaSettings, MongoSettings
from services.kit.testing.engines import KafkaEngine, MongoEngine, free_port, running, tied_to_parent
from tests.bench.framework.profile import Profile
from tests.bench.framework.rows import ROOT

SITE = "hospital-a"
_LIBRARIES = ("confluent-kafka", "grpcio", "motor", "pymongo", "protobuf", "faust-streaming", "uvloop")
#: Where a child writes what it has to tell.
EVENTS_FD = "BENCHMARK_EVENTS_FD"
#: Set by `make bench PROFILE=1`.
PROFILE = "BENCH_PROFILE"
_STOP_SECONDS = 30.0


def environment() -> dict[str, Any]:
    """What stands beside the numbers."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "libraries": ", ".join(f"{name} {version(name)}" for name in _LIBRARIES),
        "engines": f"Kafka {_kafka_version()}, mongod (see requirements), both on this machine, data on disk",
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "load_1_min": round(os.getloadavg()[0], 2),
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _kafka_version() -> str:
    jars = sorted((ROOT / ".tools" / "kafka" / "libs").glob("kafka_2.13-*.jar"))
    return jars[0].stem.rpartition("-")[2] if jars else "unknown"


class Machine:
    """Engines and children of one benchmark; a context that ends them all."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        #: The engines' processes, once they run: "kafka", "mongod".
        self.engines: dict[str, int] = {}

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @cached_property
    def folder(self) -> Path:
        return Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="pharmaloop-bench-")))

    @cached_property
    def kafka(self) -> KafkaSettings:
        """A broker of its own, with every topic of the contract."""
        engine = KafkaEngine(self.folder / "kafka", free_port(), free_port())
        self.engines["kafka"] = self._stack.enter_context(running(engine, self.folder / "kafka.log")).pid
        settings = KafkaSettings(bootstrap_servers=engine.bootstrap)
        migrate(settings, (SITE,))
        return settings

    @cached_property
    def mongo(self) -> MongoSettings:
        engine = MongoEngine(self.folder / "mongod", free_port())
        self.engines["mongod"] = self._stack.enter_context(running(engine, self.folder / "mongod.log")).pid
        return MongoSettings(uri=engine.uri)

    def surroundings(self) -> dict[str, str]:
        """Environment of a child that works on these engines."""
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            "MONGODB_URI": self.mongo.uri,
            "PHARMALOOP_STATE_DIR": str(self.folder / "state"),
        }

    def child(self, name: str, *arguments: str, on: dict[str, str] | None = None, **variables: str) -> Child:
        """A workload of `tests.bench.children` in a process of its own, on this machine's engines,
        or on what the environment `on` names."""
        around = self.surroundings() if on is None else on
        child = Child(name, arguments, {**around, **variables}, self.folder)
        self._stack.callback(child.stop)
        return child

    @contextlib.contextmanager
    def profiling(self, pids: Mapping[str, int], prefix: str, title: str) -> Iterator[None]:
        """While it lasts, where PROFILE=1 asks for it, note where the time of these processes goes."""
        wanted = pids.items() if os.environ.get(PROFILE) else ()
        running = [
            (Profile(pid, f"{prefix}-{name}", self.folder / f"{prefix}-{name}.stacks"), f"{title}: {name}")
            for name, pid in wanted
        ]
        yield
        for profile, heading in running:
            profile.end(heading)

    def profiled(self, child: Child, name: str, title: str) -> None:
        """From now on, where PROFILE=1 asks for it, note where the child's time goes."""
        if os.environ.get(PROFILE):
            child.profile(Profile(child.pid, name, self.folder / f"{name}.stacks"), title)


class ChildFailed(RuntimeError):
    """A child ended before it told what was asked of it."""


class Child:
    """A child process that tells its parent what happened, one JSON document a line."""

    def __init__(
        self, name: str, arguments: tuple[str, ...], variables: dict[str, str], folder: Path
    ) -> None:
        self.name = name
        self._profile: Profile | None = None
        self._title = ""
        self.last: dict[str, Any] = {}
        self._log = folder / f"{name}-{os.urandom(3).hex()}.log"
        reading, writing = os.pipe()
        command = [sys.executable, "-m", f"tests.bench.children.{name}", *arguments]
        path = f"{ROOT}:{ROOT / 'proto' / 'gen'}"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                tied_to_parent(command),
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": path, **variables, EVENTS_FD: str(writing)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(writing,),
            )
        os.close(writing)
        self._lines = os.fdopen(reading)

    def profile(self, profile: Profile, title: str) -> None:
        self._profile, self._title = profile, title

    @property
    def pid(self) -> int:
        return self.process.pid

    def told(self, event: str) -> dict[str, Any]:
        """Wait for an event of this name; ChildFailed when the child ends without."""
        for line in self._lines:
            document: dict[str, Any] = json.loads(line)
            if document["event"] == event:
                return document
        last = "\n".join(self._log.read_text(errors="replace").splitlines()[-25:])
        raise ChildFailed(f"{self.name} ended before it told {event!r}:\n{last}")

    def told_all(self) -> Iterator[dict[str, Any]]:
        """Everything that it tells, until it ends."""
        with contextlib.suppress(ValueError):  # closed when the child is stopped
            for line in self._lines:
                yield json.loads(line)

    def follow(self) -> None:
        """From now on only the last thing that it told is kept, in `last`."""

        def read() -> None:
            with contextlib.suppress(ValueError):  # closed when the child is stopped
                for line in self._lines:
                    self.last = json.loads(line)

        threading.Thread(target=read, name=f"follow-{self.name}", daemon=True).start()

    def stop(self) -> None:
        """Ask it to stop, then see that it does."""
        if self._profile is not None:
            self._profile.end(self._title)
            self._profile = None
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._lines.close()


_told_to = os.environ.get(EVENTS_FD)


def tell(event: str, **what: Any) -> None:
    """Called by a child: tell the parent."""
    if _told_to is not None:
        os.write(int(_told_to), (json.dumps({"event": event, **what}) + "\n").encode())


def memory_of(pid: int) -> tuple[float, float]:
    """Resident and proportional memory of a process in MB (RSS, PSS)."""
    found = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in ("Rss", "Pss"):
            found[name] = int(rest.split()[0]) / 1024
    return found["Rss"], found["Pss"]
