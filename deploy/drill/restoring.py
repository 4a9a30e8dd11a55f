"""The drill `restore`: the stack that runs here is backed up, and begins anew beside itself from that alone.

The running stack is only read. The second one has a folder, ports and engines
of its own on loopback, ends with the drill whatever ends that, and is thrown away.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from deploy.drill import judging
from deploy.drill.course import Say, Told, shown
from deploy.drill.ground import Ground, Refused
from deploy.drill.judging import Before, Check
from deploy.local.plan import MIGRATE, PORT_NAMES, SERVICES, WORLD, Plan
from deploy.local.ports import ENV_PREFIX, load_ports
from deploy.local.startup import Stack, ignore_signals, stop_on_signals

NAME = "restore"
STORY = "the stack is backed up, and a second one begins beside it from that backup alone"
_ENGINES = frozenset({"kafka", "mongod"})
#: All that keeps or decides anything; neither the portal nor the simulated world.
_PLATFORM = frozenset({*_ENGINES, MIGRATE, *SERVICES})
#: Beside twice what the engines hold: new engines have files of their own.
_ROOM_BYTES = 2 << 30
_TOPICS = "pharmaloop."
Manifest = Mapping[str, Any]


class Restoring:
    """One drill on one stack."""

    def __init__(self, ground: Ground, say: Say) -> None:
        self._ground = ground
        self._say = say
        self._folder = ground.folder / NAME
        self._backup = self._folder / "backup"
        self.told = Told(NAME, awaits_alert=False)

    def run(self) -> Told:
        """The whole course; `told.ok` is the verdict."""
        say = self._say
        say(f"drill {NAME}: {STORY}")
        shutil.rmtree(self._folder, ignore_errors=True)  # of a drill that was killed
        check_room(self._ground.state)
        was, processes = judging.before(self._ground), self._processes()
        self._folder.mkdir(parents=True, mode=0o700)
        try:
            if self._backed_up():
                self._begin_anew(was)
        finally:
            with _undisturbed():
                shutil.rmtree(self._folder)
                say("the second stack and the backup are thrown away")
        self.told.checks += self._untouched(was, processes)
        for check in self.told.checks:
            say(f"  {check.mark:<5}  {check.what}: {check.told}")
        say(f"drill {NAME}: {'passed' if self.told.ok else 'FAILED'}")
        return self.told

    def _backed_up(self) -> bool:
        """The backup, made as an operator makes it while the stack works."""
        made = self._did(
            self._ground,
            "a backup of the running stack is made and whole",
            f"pharmaloop backup make {self._backup}",
            f"pharmaloop backup verify {self._backup}",
        )
        if made:
            self._measure_backup(_manifest(self._backup))
        return made

    def _measure_backup(self, made: Manifest) -> None:
        measured = self.told.measured
        measured |= {
            "records": sum(part["records"] for topic in made["topics"] for part in topic["partitions"]),
            "documents": sum(one["documents"] for one in made["collections"]),
            "bytes": sum(file["bytes"] for file in made["files"]),
            "rpo_seconds": _seconds(made, "ended"),
            "databases_seconds": _seconds(made, "databases_at"),
            "topics_seconds": _seconds(made, "topics_at"),
        }
        self._say(
            f"RPO: what was acknowledged before the backup began is in it; it was whole "
            f"{measured['rpo_seconds']:.1f} s later ({measured['records']:,} records, "
            f"{measured['documents']:,} documents)"
        )

    def _begin_anew(self, was: Before) -> None:
        """A second stack from the backup and the keys, judged at rest."""
        state = self._folder / "stack"
        self._bring(state, truth=was.verified is not None)
        with _running(state, _ENGINES, self._told_of_second) as engines:
            began = time.monotonic()
            what = "it is laid back: each collection has its digest, each partition its begin and end"
            if not self._did(engines, what, f"pharmaloop backup restore {self._backup}"):
                return
            laid = time.monotonic()
        with _running(state, _PLATFORM, self._told_of_second) as second:
            up = time.monotonic()
            self.told.measured |= {
                "rto_seconds": round(up - began, 1),
                "restore_seconds": round(laid - began, 1),
                "start_seconds": round(up - laid, 1),
            }
            self._say(
                f"RTO: {up - began:.1f} s from empty engines until all {len(SERVICES)} services serve "
                f"(restore {laid - began:.1f} s, engines started anew and services {up - laid:.1f} s)"
            )
            self._judge(second, was)

    def _bring(self, state: Path, *, truth: bool) -> None:
        """What no backup holds: the keys, and what the simulated world planted, to be looked for."""
        state.mkdir()
        shutil.copytree(self._ground.state / "keys", state / "keys")
        if truth:
            (state / WORLD).symlink_to(self._ground.state / WORLD)

    def _judge(self, second: Ground, was: Before) -> None:
        made = _manifest(self._backup)
        self._say("the second stack is judged")
        expected = Before(_ends(made), was.letters, was.verified)
        self.told.checks += judging.judge(second, expected, over=None)

    def _did(self, ground: Ground, what: str, *lines: str) -> bool:
        """Run commands until one fails, and note it as a check."""
        for line in lines:
            done = shown(self.told, self._say, ground.run(line))
            if done.status:
                self.told.checks.append(Check(what, False, f"{line}: exit status {done.status}"))
                return False
        self.told.checks.append(Check(what, True, "yes"))
        return True

    def _told_of_second(self, text: str) -> None:
        self._say(f"  {text}")

    def _processes(self) -> dict[str, tuple[str, int]]:
        """State and pid of each; the world may end meanwhile."""
        states = self._ground.supervisor.states()
        return {name: (state.state, state.pid) for name, state in states.items() if name != WORLD}

    def _untouched(self, was: Before, processes: dict[str, tuple[str, int]]) -> list[Check]:
        now = self._processes()
        other = [name for name, one in processes.items() if now.get(name) != one]
        log = judging.lost(was.ends, judging.ends(self._ground.plan.bootstrap))
        told = ", ".join(other) or f"the same {len(processes)} processes run"
        what = "the running stack was not touched"
        return [Check(what, not other and log.ok, told if log.ok else log.told)]


def check_room(state: Path) -> None:
    """Refused where a second stack and a backup might fill the disk of the first."""
    files = (file for name in _ENGINES for file in (state / name).rglob("*") if file.is_file())
    held = 0
    for file in files:
        try:
            held += file.stat().st_blocks * 512
        except FileNotFoundError:  # engines delete what they have merged
            continue
    free, needed = shutil.disk_usage(state).free, 2 * held + _ROOM_BYTES
    if free < needed:
        raise Refused(
            f"no room for a second stack and a backup: they may need {needed / 1e9:.1f} GB, and {state} has "
            f"{free / 1e9:.1f} GB free"
        )


def _ends(made: Manifest) -> dict[tuple[str, int], int]:
    return {
        (topic["name"], part["number"]): part["end"]
        for topic in made["topics"]
        if topic["name"].startswith(_TOPICS)
        for part in topic["partitions"]
    }


def _manifest(backup: Path) -> Manifest:
    found: Manifest = json.loads((backup / "manifest.json").read_text())
    return found


def _seconds(made: Manifest, moment: str) -> float:
    """From the begin of the backup on."""
    begun, at = (datetime.fromisoformat(made[name]) for name in ("begun", moment))
    return round((at - begun).total_seconds(), 1)


@contextmanager
def _running(state: Path, only: frozenset[str], say: Callable[[str], None]) -> Iterator[Ground]:
    """Processes of the second stack, tied to this one."""
    # Ports that are named for the first one are not the second's.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ENV_PREFIX)}
    plan = Plan(state, load_ports(state, PORT_NAMES, environment), environment, only)
    stack = Stack(plan, say)
    stack.start(tied=True)
    try:
        yield Ground(state, plan, stack.supervisor, plan.endpoints())
    finally:
        with _undisturbed():
            stack.supervisor.shut_down()


@contextmanager
def _undisturbed() -> Iterator[None]:
    """A second Ctrl-C does not leave half of it behind."""
    ignore_signals()
    try:
        yield
    finally:
        stop_on_signals()
