"""A whole platform is lost, engines and all, and comes back from its backup: at rest the same, in motion too.

One platform plays cases. A backup is made from the middle of the second on, by the
operator's command, and another one at rest. Then everything is killed and its
data are gone. From each backup a platform begins in empty engines.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from pharmaloop.common.v1 import types_pb2 as common
from services.cli.backup import manifest
from services.cli.backup.manifest import Manifest
from tests.earlier import ROOT
from tests.reliability.asking import Acknowledged
from tests.reliability.invariants import Facts, broken
from tests.reliability.observe import Observer, Seen, same
from tests.reliability.workload import Caller, Case, furnish
from tests.reliability.world import World, until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

#: So many inputs of the second case are acknowledged when its backup begins: its lots have just begun.
_IN_THE_MIDDLE = 12
_COMMAND_SECONDS = 300


def backup(world: World, verb: str, folder: Path) -> Any:
    """`pharmaloop backup VERB FOLDER` for this platform, as an operator gives it; what it tells."""
    done = subprocess.run(
        [sys.executable, "-m", "services.cli.main", "backup", verb, str(folder), "--json"],
        cwd=ROOT,
        env={
            **os.environ,
            "KAFKA_BOOTSTRAP_SERVERS": world.bootstrap,
            "MONGODB_URI": world.mongod.uri,
            "PHARMALOOP_STATE_DIR": str(world.state),
        },
        capture_output=True,
        text=True,
        timeout=_COMMAND_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


class Restored(World):
    """A platform whose engines begin empty, and are given a backup before any service starts.

    Of its former life it has the keys alone: the clock comes with the backup.
    """

    def __init__(self, folder: Path, keys: Path, kept: Path) -> None:
        super().__init__(folder, keys)
        self._kept = kept

    def _make_state(self) -> None:
        super()._make_state()
        (self.state / "clock.json").unlink()

    def migrate(self) -> None:
        self.began = time.monotonic()
        backup(self, "restore", self._kept)
        self.laid_back = time.monotonic()
        super().migrate()


class Again(Caller):
    """Asks once more for what it was answered after the backup had begun.

    What was decided by then is refused by its rule: that is an answer as well.
    """

    refused = 0

    def do(self, call: Callable[..., Any], request: Any, *rest: Any, **more: Any) -> Any:
        try:
            return super().do(call, request, *rest, **more)
        except AssertionError as error:
            why = error.__cause__
            if not isinstance(why, grpc.RpcError) or why.code() != grpc.StatusCode.FAILED_PRECONDITION:
                raise
            self.refused += 1
            return SimpleNamespace(receipt=common.Receipt(request_id=request.request_id))


@dataclass(frozen=True)
class Lost:
    """What is left of the platform: its keys and backups, and how it stood at the end of its undisturbed
    course. Of what was acknowledged, so many inputs were `before` the backup in the middle began, and so many
    when it was whole (`meanwhile`); the `last` case
    began after that."""

    folder: Path
    keys: Path
    at_rest: Path
    in_the_middle: Path
    course: Seen
    acknowledged: tuple[Acknowledged, ...]
    before: int
    meanwhile: int
    last: int

    def told_of(self, made: Manifest) -> str:
        """What the backup in the middle has, and what is lost with it."""
        ends = {(topic.name, part.number): part.end for topic in made.topics for part in topic.partitions}
        later = self.acknowledged[self.before :]
        in_it = sum(all(at < ends[(topic, number)] for topic, number, at in one.positions) for one in later)
        whole, databases, topics = (
            f"{(at - made.begun).total_seconds():.1f} s"
            for at in (made.ended, made.databases_at, made.topics_at)
        )
        return (
            f"RPO: {whole} from the begin of the backup until it is whole, databases as they were after "
            f"{databases}, topics after {topics}; {self.before} inputs were acknowledged before it, "
            f"{self.meanwhile - self.before} while it was made, {len(self.acknowledged) - self.meanwhile} "
            f"later; of these {len(later)} it has {in_it}"
        )


@pytest.fixture(scope="module")
def lost(tmp_path_factory: pytest.TempPathFactory) -> Lost:
    """A platform that works, is backed up twice, and is destroyed."""
    folder = tmp_path_factory.mktemp("lost")
    keys, at_rest, middle = folder / "keys", folder / "at-rest", folder / "in-the-middle"
    with running(World(folder / "first", keys)) as world:
        caller = Caller(world)
        told = caller.journal.acknowledged
        furnish(caller)
        Case(1).play(caller)
        whole = threading.Event()
        with ThreadPoolExecutor(1, "cases") as beside:
            first = len(told)
            playing = beside.submit(_cases, caller, whole)
            try:
                until("the second case is on its way", lambda: len(told) >= first + _IN_THE_MIDDLE)
                before = len(told)
                backup(world, "make", middle)
                meanwhile = len(told)
            finally:
                whole.set()
            last = playing.result()
        observer = Observer(world)
        course = at_rest_and_right(observer, told)
        backup(world, "make", at_rest)
        caller.close()
    assert before < meanwhile < len(told), "inputs came while the backup was made, and after it"
    return Lost(folder, keys, at_rest, middle, course, tuple(told), before, meanwhile, last)


def _cases(caller: Caller, whole: threading.Event) -> int:
    """The second case and those that follow, until one has begun after the backup was whole; the last."""
    for number in count(2):
        is_last = whole.is_set()
        Case(number).play(caller)
        if is_last:
            return number
    raise AssertionError


@contextmanager
def running(world: World) -> Iterator[Any]:
    """A platform that serves; at the end it is killed, and its engines' data are gone."""
    try:
        world.start()
        yield world
    except BaseException as error:
        error.add_note("\n".join([*map(str, world.deaths[-12:]), *world.complaints()]))
        raise
    finally:
        world.stop()


def at_rest_and_right(observer: Observer, acknowledged: list[Acknowledged]) -> Seen:
    """Everything at rest; what was acknowledged has its one effect, and no dead letter lies there."""
    observer.wait_for_rest()
    seen = observer.look()
    assert not seen.letters
    wrong = broken(Facts(seen.databases, seen.events, seen.ends, observer.marks(), acknowledged))
    assert not wrong, "\n".join(wrong[:40])
    return seen


def told_of(world: Restored, made: Manifest) -> str:
    """How long it took, from empty engines on; the world has just begun to serve."""
    return (
        f"{made.records:,} records in {len(made.topics)} topics, {made.documents:,} documents in "
        f"{len(made.collections)} collections, {made.bytes / 1e6:.1f} MB in files; RTO: "
        f"{time.monotonic() - world.began:.1f} s from empty engines until all {len(world.names)} processes "
        f"serve, of which the restore {world.laid_back - world.began:.1f} s"
    )


@pytest.mark.req("M9")
def test_a_platform_at_rest_is_the_same_after_its_restore(lost: Lost) -> None:
    with running(Restored(lost.folder / "second", lost.keys, lost.at_rest)) as world:
        print(told_of(world, manifest.read(lost.at_rest)))
        observer = Observer(world)
        same(lost.course, at_rest_and_right(observer, list(lost.acknowledged)))
        # And it works: another case closes its loops.
        caller = Caller(world)
        Case(lost.last + 1).play(caller)
        at_rest_and_right(observer, [*lost.acknowledged, *caller.journal.acknowledged])
        caller.close()


@pytest.mark.req("M9")
def test_what_was_acknowledged_before_the_backup_is_there_and_the_rest_is_asked_again(lost: Lost) -> None:
    made = manifest.read(lost.in_the_middle)
    before = list(lost.acknowledged[: lost.before])
    with running(Restored(lost.folder / "third", lost.keys, lost.in_the_middle)) as world:
        print(told_of(world, made))
        print(lost.told_of(made))
        observer = Observer(world)
        at_rest_and_right(observer, before)
        caller = Again(world)
        for number in range(2, lost.last + 1):
            Case(number).play(caller)
        print(
            f"{len(caller.journal.acknowledged)} asked again and answered, {caller.refused} refused by a rule"
        )
        found = at_rest_and_right(observer, [*before, *caller.journal.acknowledged])
        same(but_alerts(lost.course), but_alerts(found))
        caller.close()


def but_alerts(seen: Seen) -> Seen:
    """Without the alerts: whether the second deviation of a lot joins the alert of the first depends on how
    soon a person has answered that, in every course anew."""
    databases = {name: kinds for name, kinds in seen.databases.items() if name != "alerting"}
    events = [event for event in seen.events if event.source != "/svc/alerting/alert"]
    return replace(seen, databases=databases, events=events)
