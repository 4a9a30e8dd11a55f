"""Readiness and liveness: what they say, and that they say it no longer when the cause is gone."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast

import pytest

from services.kit import alive, readiness
from services.kit.alive import Heartbeat, judge
from services.kit.bus.protocol import Failure, Outcome, Outgoing, Position
from services.kit.bus.watched import WatchedOrderedProducer, WatchedProducer
from services.kit.clock import WallClock
from services.kit.errors import Integrity, Retryable
from services.kit.metrics import Metrics
from services.kit.presence import Usurped
from services.kit.readiness import Readiness
from services.kit.runners.batch import RunnerState

RECORD = Outgoing("t", b"k", b"v", ())


class Producer:
    """Gives futures that the test settles."""

    def __init__(self) -> None:
        self.futures: list[Future[list[Position]]] = []

    def publish(self, records: Sequence[Outgoing]) -> Future[list[Position]]:
        self.futures.append(Future())
        return self.futures[-1]

    def publish_ends(self, records: Sequence[Outgoing]) -> Future[list[Position]]:
        return self.publish(records)

    def offer(self, records: Sequence[Outgoing]) -> Future[list[Outcome]]:
        return cast(Future[list[Outcome]], self.publish(records))

    def abandon(self) -> None:
        pass

    def close(self) -> None:
        pass


class Runner:
    def __init__(self) -> None:
        self.name = "rnd.insights"
        self.status = RunnerState(self.name, state="running", beat=time.monotonic())


class Engine:
    """A probe that says what it is told to."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.topics: Exception | None = None
        self.off: float | None = None
        self.asked = threading.Event()

    def __call__(self) -> None:
        self.asked.set()
        if self.error:
            raise self.error

    check = beat = __call__

    def check_topics_again(self) -> None:
        if self.topics:
            raise self.topics

    def skew(self) -> float | None:
        return self.off


class World:
    """A process's readiness, with engines that fail as the test wants."""

    def __init__(self, folder: Path) -> None:
        self.kafka, self.mongo, self.inner, self.runner = Engine(), Engine(), Producer(), Runner()
        self.metrics = Metrics("rnd")
        parts: dict[str, Any] = {"backbone": self.kafka, "database": self.mongo, "presence": self.mongo}
        self.heartbeat = Heartbeat(folder / "alive" / "rnd.json", "rnd")
        self.readiness = Readiness(
            metrics=self.metrics,
            producer=WatchedProducer(self.inner),
            heartbeat=self.heartbeat,
            runners=lambda: [self.runner],  # type: ignore[list-item]
            **parts,
        )

    def trouble(self, part: str) -> float | None:
        labels = {"service": "rnd", "part": part}
        return self.metrics.registry.get_sample_value("pharmaloop_trouble", labels)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(readiness, "BEAT_SECONDS", 0.01)
    monkeypatch.setattr(readiness, "HEARTBEAT_SECONDS", 0.01)
    return World(tmp_path)


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("part", ["database", "kafka"])
async def test_an_engine_in_trouble_is_a_reason_until_it_is_well_again(world: World, part: str) -> None:
    engine = {"database": world.mongo, "kafka": world.kafka}[part]
    watch = {"database": world.readiness.watch_database, "kafka": world.readiness.watch_backbone}[part]
    task = asyncio.create_task(watch())
    engine.error = Retryable("the disk of the database is full: free some space there")
    await _until(lambda: bool(world.readiness.reasons()))
    assert world.readiness.reasons() == [f"{part}: the disk of the database is full: free some space there"]
    assert world.trouble(part) == 1
    engine.error = ValueError("a bug of the probe")
    await _until(lambda: "ValueError" in world.readiness.reasons()[0])
    engine.error = None
    await _until(lambda: not world.readiness.reasons())
    assert world.trouble(part) == 0
    task.cancel()


async def test_a_topic_that_somebody_changed_is_a_reason_and_kafka_is_not(world: World) -> None:
    world.kafka.topics = Integrity("topic t has 3 partitions and topics.yaml says 6")
    watching = asyncio.ensure_future(world.readiness.watch_backbone())
    await _until(lambda: bool(world.readiness.reasons()))
    assert world.readiness.reasons() == ["topics: topic t has 3 partitions and topics.yaml says 6"]
    assert (world.trouble("topics"), world.trouble("kafka")) == (1, 0)
    world.kafka.topics = None
    await _until(lambda: not world.readiness.reasons())
    watching.cancel()


async def test_a_usurped_process_ends(world: World) -> None:
    world.mongo.error = Usurped("PHARMALOOP_RND_INSTANCE=0: ...")
    async with asyncio.timeout(10):
        with pytest.raises(Usurped):
            await world.readiness.watch_database()


async def test_a_wrong_clock_is_followed_and_told_once_until_it_changes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[float] = []

    class Log:
        def warning(self, _event: str, *, seconds: float) -> None:
            told.append(seconds)

    mine = WallClock()
    monkeypatch.setattr(readiness, "wall_clock", mine)
    monkeypatch.setattr(readiness, "_log", Log())
    task = asyncio.create_task(world.readiness.watch_database())
    for off in (600.0, 300.0):
        world.mongo.off = off
        await _until(lambda off=off: off in told)  # type: ignore[misc]
        await asyncio.sleep(0.1)
    assert told == [600.0, 300.0]
    assert (mine.now() - mine.machine()).total_seconds() > 299
    task.cancel()


def test_a_runner_that_failed_or_hangs_is_a_reason(world: World) -> None:
    world.runner.status.beat = time.monotonic() - 31
    (reason,) = world.readiness.reasons()
    assert reason.startswith("rnd.insights: has not turned for 31 s")
    world.runner.status.state, world.runner.status.detail = "failed", "upgrade this service first"
    assert world.readiness.reasons() == ["rnd.insights: failed (upgrade this service first)"]
    world.runner.status.state, world.runner.status.beat = "running", time.monotonic()
    assert world.readiness.reasons() == []


def test_background_work_may_have_the_process_wait(world: World) -> None:
    world.readiness.waits["machine"] = "its table is not recovered yet"
    assert world.readiness.reasons() == ["machine: its table is not recovered yet"]
    del world.readiness.waits["machine"]
    assert world.readiness.reasons() == []


def test_records_that_the_log_refuses_are_a_reason_until_it_takes_one(world: World) -> None:
    producer = world.readiness.producer
    producer.publish([RECORD])
    world.inner.futures[0].set_exception(Retryable("Kafka did not take every record: no space"))
    assert "no space" in world.readiness.reasons()[0]
    producer.publish([RECORD])
    world.inner.futures[1].set_result([Position("t", 0, 0)])
    assert world.readiness.reasons() == []


def test_records_that_wait_for_long_are_a_reason(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.readiness.producer.publish([RECORD])
    assert world.readiness.reasons() == []
    now = time.monotonic()
    monkeypatch.setattr("services.kit.bus.watched.time.monotonic", lambda: now + 40)
    (reason,) = [r for r in world.readiness.reasons() if r.startswith("producer")]
    assert "has not confirmed records for 40 s" in reason
    world.inner.futures[0].set_result([Position("t", 0, 0)])
    assert not [r for r in world.readiness.reasons() if r.startswith("producer")]


# -- liveness -------------------------------------------------------------------


async def test_the_heartbeat_is_as_old_as_the_slowest_loop(world: World) -> None:
    world.runner.status.beat = time.monotonic() - 50
    task = asyncio.create_task(world.readiness.watch_loops())
    await _until(world.heartbeat.path.exists)
    lives, why = judge(world.heartbeat.path, 30)
    assert not lives
    assert "rnd.insights has not turned for 5" in why
    assert time.time() - world.heartbeat.path.stat().st_mtime > 49, "the file's own age says the same"
    assert judge(world.heartbeat.path, 100)[0]
    world.runner.status.beat = time.monotonic()
    await _until(lambda: judge(world.heartbeat.path, 30)[0])
    task.cancel()


async def test_a_heartbeat_that_cannot_be_written_is_a_reason(world: World, tmp_path: Path) -> None:
    (tmp_path / "alive").write_text("not a folder")
    task = asyncio.create_task(world.readiness.watch_loops())
    await _until(lambda: bool(world.readiness.reasons()))
    assert "PHARMALOOP_STATE_DIR" in world.readiness.reasons()[0]
    (tmp_path / "alive").unlink()
    await _until(lambda: not world.readiness.reasons())
    task.cancel()


async def test_a_volume_that_is_full_is_a_reason_though_the_heartbeat_is_written(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a pod keys and tables lie on volumes of their own."""
    keys, tables = tmp_path / "keys", tmp_path / "loops"
    full = {keys: f"{keys} cannot be written (No space left on device): free some space"}
    monkeypatch.setattr(readiness, "VOLUME_SECONDS", 0.01)
    monkeypatch.setattr(readiness, "takes_nothing", lambda folder: full.get(folder, ""))
    world.readiness.volumes = [keys, tables]
    task = asyncio.create_task(world.readiness.watch_loops())
    await _until(lambda: bool(world.readiness.reasons()))
    assert world.readiness.reasons() == [f"state folder: {full[keys]}"]
    assert world.trouble("state folder") == 1
    assert judge(world.heartbeat.path, 30)[0], "a restart would not help"
    full.clear()
    await _until(lambda: not world.readiness.reasons())
    assert world.trouble("state folder") == 0
    task.cancel()


def _beat(path: Path, **changed: Any) -> Path:
    Heartbeat(path, "rnd").write({"loop": 0.0})
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))
    return path


def test_the_probe_judges_by_the_stopwatch_not_by_the_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _beat(tmp_path / "hb.json")
    for jump in (-86_400, 86_400):
        monkeypatch.setattr("services.kit.alive.time.time", lambda jump=jump: time.monotonic() + jump)
        assert judge(path, 30)[0], "a clock that is set must not kill"
    frozen = judge(_beat(path, written=time.monotonic() - 31), 30)
    assert (frozen[0], "dead or frozen" in frozen[1]) == (False, True)
    reboot = judge(_beat(path, written=time.monotonic() + 1000), 30)
    assert (reboot[0], "earlier start of this machine" in reboot[1]) == (False, True)


@pytest.mark.parametrize("content", ["", "{", '{"name": 1}', "[]", '{"name": "x", "written": null}'])
def test_the_probe_says_so_when_the_file_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "x").write_text(content)
    assert judge(tmp_path / "x", 30) == (False, f"{tmp_path / 'x'}: this is not a heartbeat file")


def test_the_probe_answers_by_exit_code_and_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PHARMALOOP_STATE_DIR", str(tmp_path))
    assert alive.main([]) == 1
    assert "no service runs" in capsys.readouterr().out
    _beat(tmp_path / "alive" / "rnd-0.json", trouble="database: full")
    assert alive.main(["--older-than", "30"]) == 0
    assert capsys.readouterr().out.count("\n") == 1
    _beat(tmp_path / "alive" / "loops-0.json", written=0.0 if time.monotonic() > 30 else -100.0)
    assert alive.main(["--older-than", "30"]) == 1
    assert "DEAD" in capsys.readouterr().out
    assert alive.main([str(tmp_path / "alive" / "rnd-0.json")]) == 0


def test_what_the_relay_waits_for_is_watched_with_the_facts(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = world.readiness.producer
    relays = WatchedOrderedProducer(world.inner, watch)
    burst = relays.offer([RECORD])
    monkeypatch.setattr("services.kit.bus.watched.SLOW_SECONDS", -1.0)
    assert "has not confirmed records" in watch.trouble()
    monkeypatch.undo()
    burst.set_result([Failure("record", "too large")])
    assert watch.trouble() == "", "a refused event blocks its aggregate, and not the process"
