"""The loop runtime on a real Kafka: what kills it loses nothing, and what it cannot do it says."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka.consumer.group_coordinator import GroupCoordinator  # type: ignore[import-untyped]
from aiokafka.errors import GroupCoordinatorNotAvailableError  # type: ignore[import-untyped]
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from services.kit.bus.protocol import Outgoing
from services.kit.envelope import to_record
from services.kit.errors import Integrity, Retryable
from services.kit.metrics import LOOP_COMMIT_STALLED
from services.kit.runners.limit import PARKED_REASON as PARKED
from services.kit.runners.limit import DeadLetterLimit
from services.kit.settings import KafkaSettings
from services.kit.testing.engines import ASKING, KafkaEngine, free_port, running
from services.loops.checks import Needs, check
from services.loops.machine import Machine, MachineFailed
from tests.reliability import loop_child
from tests.reliability.loop_world import (
    FOREVER,
    PARTITIONS,
    ROOT,
    RUNS_TOPIC,
    Child,
    LoopWorld,
    loop_world,
    until,
)

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def world(backbone: str, tmp_path: Path) -> Iterator[LoopWorld]:
    with loop_world(backbone, tmp_path) as made:
        yield made.create()


@asynccontextmanager
async def machine_in(world: LoopWorld, **options: Any) -> AsyncIterator[Machine]:
    """A machine inside the test, running."""
    machine = loop_child.machine(
        world.kafka, world.folder / "inside", "w1", world.prefix, world.source, **options
    )
    task = asyncio.ensure_future(machine.run())
    try:
        await eventually(lambda: machine.status.state in ("running", "failed") or task.done(), "it runs")
        if task.done():
            task.result()
        yield machine
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def eventually(condition: Callable[[], bool], what: str, seconds: float = 40.0) -> None:
    try:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not in time: {what}") from None


# -- killed -------------------------------------------------------------------


@pytest.mark.faults
def test_killed_between_table_and_log_it_sends_what_is_due_and_changes_nothing(world: LoopWorld) -> None:
    world.feed(world.events(60))
    for point in ("loop.stored:7", "loop.sent:13"):
        assert world.worker(PHARMALOOP_CRASH_AT=point).dies() == -9
    world.worker()
    world.until_taken()
    assert world.judge() > 0, "an effect whose fate was unknown was sent again"


@pytest.mark.faults
def test_killed_at_a_fifth_and_joined_by_a_second_worker_nothing_is_lost_or_doubled(world: LoopWorld) -> None:
    events = world.events(300)
    world.feed(events[:200])
    first = world.worker("w1")
    first.until(lambda status: status["records"] >= 60, "a fifth is taken")
    first.kill()
    first = world.worker("w1").running()
    second = world.worker("w2")
    world.feed(events[200:])
    second.running()
    world.feed(world.events(60))
    world.until_taken()
    assert second.status["records"] > 0, "the second took its share"
    world.judge()
    second.kill()
    world.feed(world.events(30))
    world.until_taken()
    world.judge()


@pytest.mark.faults
def test_killed_while_a_handler_sleeps_and_with_its_disk_gone_it_is_exact(world: LoopWorld) -> None:
    """Pitfalls 1 and 7: what was in flight comes again; the changelog alone restores the table."""
    events = [world.event("slow") for _ in range(10)]
    sleepy = [*events[:2], events[2]._replace(actor="sleepy"), *events[3:]]
    world.feed([*world.events(40), *sleepy])
    child = world.worker(LOOP_CHILD_SLEEPS="600")
    child.until(lambda status: status["state"] == "asleep", "a handler sleeps")
    child.kill()
    (asleep,) = [one for one in world.read(world.source) if dict(one.headers).get("pl_actor") == b"sleepy"]
    assert world.committed()[asleep.partition] <= asleep.offset, "nothing in flight is acknowledged"
    assert sleepy[2].id.encode() not in b"".join(one.value or b"" for one in world.read(world.changelog))
    shutil.rmtree(world.folder / f"{world.name}-w1")
    world.worker()
    world.until_taken()
    world.judge()


@pytest.mark.faults
@pytest.mark.parametrize("disk", ["w1", "empty"])
def test_what_a_former_owner_writes_late_undoes_no_case(world: LoopWorld, disk: str) -> None:
    """Frozen while it sent, it wakes when its successor is further: its old states end the changelog."""
    world.feed(world.events(60))
    child = world.worker("w1")
    world.until_taken()
    world.judge()
    child.kill()
    old = {one.key or b"": one for one in reversed(world.read(world.changelog))}
    some = sorted(old.items())[::2]
    world.publish([Outgoing(world.changelog, key, one.value, ()) for key, one in some])
    assert world.worker("w1", data=disk, LOOP_CHILD_DIES_SETTLING="1").dies() == -9
    world.worker("w1", data=disk)
    world.judge()
    world.feed(world.events(20))
    world.until_taken()
    world.judge()


def test_nobody_runs_a_loop_with_concurrency() -> None:
    """Pitfall 1: with more than one at a time, faust acknowledges records that are in flight."""
    found = []
    for file in sorted((ROOT / "services").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "concurrency":
                found.append((file.name, ast.unparse(node.value)))
    assert [one for one in found if one[1] != "1"] == []


# -- garbage ------------------------------------------------------------------


async def test_garbage_becomes_dead_letters_and_the_rest_goes_on(world: LoopWorld) -> None:
    """Pitfall 3: bytes of every kind, in every codec, and lag back to 0."""
    good = world.events(20)
    one = to_record(world.event("c0", "bad"), world.source)
    no_type = tuple(pair for pair in one.headers if pair[0] != "ce_type")
    odd_type = tuple((n, b"pharmaloop.x.v1.Nothing") if n == "ce_type" else (n, v) for n, v in one.headers)
    no_seq = tuple(pair for pair in one.headers if pair[0] != "pl_seq")
    bad = [
        Outgoing(world.source, one.key, b"\xff\x00\xfe\x01", ()),
        Outgoing(world.source, one.key, (one.value or b"")[:-3], one.headers),
        Outgoing(world.source, one.key, one.value, odd_type),
        Outgoing(world.source, one.key, one.value, no_type),
        Outgoing(world.source, one.key, None, one.headers),
        Outgoing(world.source, one.key, one.value, no_seq),
        Outgoing(world.source, b"", one.value, one.headers),
    ]
    await asyncio.to_thread(world.feed, good[:10])
    await asyncio.to_thread(world.publish, bad[:3], **{"compression.type": "lz4"})
    await asyncio.to_thread(world.publish, bad[3:], **{"compression.type": "zstd"})
    last = world.event("c0", "bad")
    await asyncio.to_thread(world.feed, [last, *good[10:]])
    async with machine_in(world) as machine:
        await asyncio.to_thread(world.until_taken)
        letters = await asyncio.to_thread(world.letters)
        reasons = sorted(letter["dlq_reason"] for letter in letters)
        follows = PARKED  # the good record of the source whose others were bad
        bad_ones = ["NO_HEADER", "UNDECODABLE", "UNKNOWN_TYPE", "NO_HEADER", "UNDECODABLE", "NO_VERSION"]
        assert reasons == sorted([*bad_ones, "NO_KEY", follows])
        assert {(letter["dlq_topic"], letter["dlq_runner"]) for letter in letters} == {
            (world.source, "loops.heard")
        }
        await asyncio.to_thread(world.judge)
        # The letters of the source are given up, all but the last: what is only parked is sent again.
        places = [
            f"{letter['dlq_topic']}/{letter['dlq_partition']}/{letter['dlq_offset']}".encode()
            for letter in letters
            if "ce_source" in letter and letter["dlq_reason"] != "NO_KEY"
        ]
        parked = to_record(last, world.source)
        told = [
            Outgoing(world.source, parked.key, None, (*parked.headers, ("pl_discard", place)))
            for place in places[:-1]
        ]
        again = (*parked.headers, ("pl_redrive", places[-1]))
        await asyncio.to_thread(
            world.publish, [*told, Outgoing(world.source, parked.key, parked.value, again)]
        )
        await asyncio.to_thread(world.feed, [world.event("c0", "bad")])
        await asyncio.to_thread(world.until_taken)
        assert (machine.status.dead_letters, machine.status.records) == (8, 30 + len(told))
        assert len(await asyncio.to_thread(world.letters)) == 8, "the source is free again"
        await eventually(lambda: machine.status.lag == 0, "it says that it has no lag")
        await eventually(lambda: machine.status.parked == 0, "a record without a key parks nothing")


async def test_too_many_dead_letters_stop_it_and_nothing_more_is_acknowledged(world: LoopWorld) -> None:
    bad = [Outgoing(world.source, b"one-key", b"\xff", (("n", str(n).encode()),)) for n in range(12)]
    await asyncio.to_thread(world.publish, bad)
    async with machine_in(world, limit=DeadLetterLimit(consecutive=5)) as machine:
        await eventually(lambda: machine.status.state == "failed", "it stops")
        assert "look at the newest deploy" in machine.status.detail
        assert machine.status.dead_letters == 5
        await eventually(lambda: machine.status.records == 5, "what was buried counts")
        await asyncio.to_thread(until, lambda: world.lag() == 7, "five are acknowledged")
        assert (machine.status.state, machine.status.records) == ("failed", 5)
    assert len(await asyncio.to_thread(world.letters)) == 5
    # faust has acknowledged what it held when it stopped. The table knows better.
    async with machine_in(world) as machine:  # after the deploy was mended
        await eventually(lambda: machine.status.dead_letters == 7, "the rest is taken")
    letters = await asyncio.to_thread(world.letters)
    assert [int(letter["n"]) for letter in letters] == list(range(12)), "in order, none skipped, none twice"


# -- commits that are refused -------------------------------------------------


@contextlib.contextmanager
def _no_coordinator(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whoever keeps a group's places is away, as Kafka tells it; records are given and taken."""

    async def away(*_: Any) -> None:
        raise GroupCoordinatorNotAvailableError

    with monkeypatch.context() as patched:
        patched.setattr(GroupCoordinator, "_do_commit_offsets", away)
        yield


@pytest.mark.faults
async def test_commits_that_hang_stop_no_loop_and_are_told(
    world: LoopWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither does the watch wait with the commit that it makes itself, nor do two keep records away."""
    async with machine_in(world) as machine:
        status = machine.status

        def stalled() -> float:
            labels = {"service": "loops", "runner": "loops.heard"}
            return machine._metrics.registry.get_sample_value(LOOP_COMMIT_STALLED.name, labels) or 0.0

        await asyncio.to_thread(world.feed, world.events(30))
        await asyncio.to_thread(world.until_taken)
        with _no_coordinator(monkeypatch):
            await asyncio.to_thread(world.feed, world.events(30))
            await eventually(lambda: status.records == 60, "records are taken meanwhile")
            await eventually(lambda: stalled() > 12, "it is told")
            await asyncio.to_thread(world.feed, world.events(30))
            await eventually(lambda: status.records == 90, "also long after")
            assert (status.state, time.monotonic() - status.beat < 2) == ("running", True)
            assert await asyncio.to_thread(world.lag) == 60, "nothing of it is committed"
        await asyncio.to_thread(world.until_taken)
        await eventually(lambda: stalled() == 0, "no restart was needed")
    await asyncio.to_thread(world.judge)


# -- what it says -------------------------------------------------------------


async def test_the_machine_says_how_it_fares_and_serves_no_web(world: LoopWorld) -> None:
    events = world.events(30)
    await asyncio.to_thread(world.feed, events)
    before = _listening()
    async with machine_in(world) as machine:
        await asyncio.to_thread(world.until_taken)
        status = machine.status
        assert (status.name, status.state, status.records) == ("loops.heard", "running", 30)
        await eventually(lambda: status.lag == 0 and status.beat > 0, "its lag")
        ends = await asyncio.to_thread(world.ends, world.source)
        assert {p.number: at for p, at in machine.positions().items()} == ends
        assert machine.app.conf.web_enabled is False
        assert _listening() == before, "no port was opened"
        machine.app.stop_reason = None
        await machine.app.crash(RuntimeError("inside faust"))
        await eventually(lambda: status.state == "failed", "it notices that faust is gone")
        assert "inside faust" in status.detail


def _listening() -> set[int]:
    """Ports on which this process listens, from the kernel."""
    mine = set()
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            mine.add(os.readlink(link))
    rows = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
    return {int(row[1].split(":")[1], 16) for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in mine}


async def test_when_faust_stops_on_its_own_the_machine_raises(world: LoopWorld) -> None:
    machine = loop_child.machine(world.kafka, world.folder / "inside", "w1", world.prefix, world.source)
    task = asyncio.ensure_future(machine.run())
    await eventually(lambda: machine.status.state == "running", "the machine runs")
    await machine.app.crash(RuntimeError("inside faust"))
    with pytest.raises(MachineFailed) as caught:
        await asyncio.wait_for(task, 40)
    assert "inside faust" in str(caught.value.__cause__)


# -- start-up -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        ({"policy": "delete"}, "has cleanup.policy=delete and must have cleanup.policy=compact"),
        ({"policy": "compact,delete"}, "must have cleanup.policy=compact"),
        ({"partitions": PARTITIONS - 1}, "has 5 partitions and topics.yaml says 6"),
    ],
)
async def test_a_changelog_that_would_lose_states_keeps_it_from_starting(
    backbone: str, tmp_path: Path, make: dict[str, Any], message: str
) -> None:
    world = await asyncio.to_thread(LoopWorld(backbone, tmp_path).create, **make)
    machine = loop_child.machine(backbone, tmp_path, "w1", world.prefix, world.source)
    with pytest.raises(Integrity) as caught:
        await machine.run()
    assert message in str(caught.value)
    assert world.changelog in str(caught.value)


async def test_a_missing_topic_is_named_with_the_remedy(backbone: str, tmp_path: Path) -> None:
    world = LoopWorld(backbone, tmp_path)
    machine = loop_child.machine(backbone, tmp_path, "w1", world.prefix, world.source)
    with pytest.raises(Retryable, match=r"is missing: run 'python -m services\.kit\.bus\.migrate'"):
        await asyncio.to_thread(check, KafkaSettings(bootstrap_servers=backbone), machine.needs, 0.1)
    nowhere = KafkaSettings(bootstrap_servers="127.0.0.1:9")
    with pytest.raises(Retryable, match="correct KAFKA_BOOTSTRAP_SERVERS"):
        await asyncio.to_thread(check, nowhere, machine.needs, 0.1)


@pytest.mark.faults
async def test_a_case_topic_that_was_made_anew_stops_the_loop(world: LoopWorld) -> None:
    await asyncio.to_thread(world.feed, world.events(20))
    async with machine_in(world):
        await asyncio.to_thread(world.until_taken)
    for made in world.admin.delete_topics([world.source]).values():
        await asyncio.to_thread(made.result, 10)
    await asyncio.to_thread(until, lambda: world.source not in world.admin.list_topics().topics, "it is gone")
    for made in world.admin.create_topics([NewTopic(world.source, PARTITIONS, 1, config=FOREVER)]).values():
        await asyncio.to_thread(made.result, 10)
    async with machine_in(world) as machine:
        await eventually(lambda: machine.status.state == "failed", "it stops")
        assert "the topic lost records or was made anew" in machine.status.detail
        assert await asyncio.to_thread(world.lag) == 0, "it took nothing"


# -- a broker of its own --------------------------------------------------------


#: It compacts at once and asks who may do what.
HARD = {**ASKING, "allow.everyone.if.no.acl.found": "true", "log.cleaner.backoff.ms": "200"}


class Broker:
    """A running one that a test may kill and start again; its data stay."""

    def __init__(self, folder: Path) -> None:
        self.engine = KafkaEngine(folder / "data", free_port(), free_port(), settings=HARD)
        self.address = self.engine.bootstrap
        self._folder = folder
        self._stack = ExitStack()
        self.start()

    def start(self) -> None:
        log = self._folder / "kafka.log"
        self.process = self._stack.enter_context(running(self.engine, log, timeout=120))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(20)

    def close(self) -> None:
        self._stack.close()


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    made = Broker(tmp_path_factory.mktemp("hard-kafka"))
    try:
        yield made
    finally:
        made.close()


@pytest.mark.faults
@pytest.mark.timeout(400)
def test_a_broker_killed_in_the_middle_and_a_compacted_changelog_lose_nothing(
    broker: Broker, tmp_path: Path
) -> None:
    with loop_world(broker.address, tmp_path) as world:
        runs = NewTopic(RUNS_TOPIC, PARTITIONS, 1)
        world.admin.create_topics([runs])[RUNS_TOPIC].result(10)
        world.create(changelog={"segment.ms": "50", "min.cleanable.dirty.ratio": "0.01"})
        world.feed(world.events(300))
        child = world.worker()
        child.until(lambda status: status["records"] >= 30, "it takes records")
        broker.kill()
        child.until(lambda status: status["state"] in ("waiting", "recovering"), "it says that it waits")
        broker.start()
        child = supervised(world, child)
        world.feed(world.events(60))
        child = supervised(world, child)
        world.judge()
        child.kill()
        # Only the last record of each case is left, and a worker with an empty disk starts from that.
        stored = sum(world.ends(world.changelog).values())
        until(lambda: len(world.read(world.changelog)) < stored / 2, "the changelog is compacted")
        world.feed(world.events(20))
        world.worker(data="empty")
        world.until_taken()
        world.judge()


def supervised(world: LoopWorld, child: Child) -> Child:
    """Start the worker again when it ends, as the supervisor does, until all is taken."""
    deadline = time.monotonic() + 120
    while world.lag():
        assert time.monotonic() < deadline, f"not taken in time: {child.status} {child.log()}"
        if child.process.poll() is not None:
            assert child.process.returncode == 1, child.log()
            child = world.worker()
        time.sleep(0.1)
    return child


def test_a_worker_without_its_rights_does_not_start(broker: Broker, tmp_path: Path) -> None:
    world = LoopWorld(broker.address, tmp_path).create()
    needs = Needs(world.source, world.changelog, PARTITIONS, (f"{world.source}.dlq",), world.group)
    kafka = KafkaSettings(bootstrap_servers=world.kafka)
    check(kafka, needs)
    _grant(world, "User:other", AclOperation.WRITE)
    said = f"no right to describe topic {world.changelog}: grant this service's principal DESCRIBE"
    until(lambda: said in _refusal(kafka, needs), said)
    _grant(world, "User:ANONYMOUS", AclOperation.READ)
    said = f"no right to DESCRIBE_CONFIGS and WRITE topic {world.changelog}"
    until(lambda: said in _refusal(kafka, needs), said)
    _grant(world, "User:ANONYMOUS", AclOperation.DESCRIBE_CONFIGS)
    said = f"no right to WRITE topic {world.changelog}"
    until(lambda: said in _refusal(kafka, needs), said)
    _grant(world, "User:ANONYMOUS", AclOperation.WRITE)
    until(lambda: _refusal(kafka, needs) == "", "with its rights it may start")


def _grant(world: LoopWorld, who: str, what: AclOperation) -> None:
    kind, pattern = ResourceType.TOPIC, ResourcePatternType.LITERAL
    allow = AclPermissionType.ALLOW
    binding = AclBinding(kind, world.changelog, pattern, who, "*", what, allow)
    for made in world.admin.create_acls([binding]).values():
        made.result(10)


def _refusal(kafka: KafkaSettings, needs: Needs) -> str:
    try:
        check(kafka, needs, 0.1)
    except (Integrity, Retryable) as error:
        return str(error)
    return ""
