"""The platform's clock runs at its speed, and never backwards."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from services.kit import clock
from services.kit.clock import PlatformClock, WallClock, ensure_clock, load_clock
from services.kit.errors import Integrity, Retryable
from services.kit.work import moment_text

WALL = datetime(2026, 1, 1, tzinfo=UTC)


class Wall:
    """The wall's time, moved by hand."""

    def __init__(self) -> None:
        self.moment = WALL

    def __call__(self) -> datetime:
        return self.moment

    def advance(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Wall:
    wall = Wall()
    monkeypatch.setattr(clock, "wall_now", wall)
    return wall


def test_platform_time_runs_at_its_speed(wall: Wall) -> None:
    anchor = datetime(2030, 6, 1, tzinfo=UTC)
    fast = PlatformClock(anchor, WALL, 600.0)
    assert fast.now() == anchor
    wall.advance(2)
    assert fast.now() == anchor + timedelta(minutes=20)
    assert fast.wall() == WALL + timedelta(seconds=2)
    assert fast.until(anchor + timedelta(minutes=30)) == timedelta(seconds=1)
    assert fast.until(anchor + timedelta(minutes=10)) == timedelta(seconds=-1)


def test_without_a_kept_clock_platform_time_is_the_walls(wall: Wall, tmp_path: Path) -> None:
    found = load_clock(tmp_path / "nowhere")
    wall.advance(60)
    assert found.now() == wall()


def test_every_process_reads_the_same_clock(wall: Wall, tmp_path: Path) -> None:
    made = ensure_clock(tmp_path / "state", 600)
    wall.advance(3)
    read = load_clock(tmp_path / "state")
    assert read == made
    assert read.now() == WALL + timedelta(seconds=1800)
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["clock.json"]


@pytest.mark.parametrize("speeds", [(600, 1, 60), (1, 600, 1), (600, 600, 600)])
def test_a_change_of_speed_does_not_move_the_time(
    wall: Wall, tmp_path: Path, speeds: tuple[float, ...]
) -> None:
    expected = WALL
    ensure_clock(tmp_path, speeds[0])
    for speed, following in zip(speeds, (*speeds[1:], speeds[-1]), strict=True):
        wall.advance(10)
        expected += timedelta(seconds=10 * speed)
        assert load_clock(tmp_path).now() == expected
        assert ensure_clock(tmp_path, following).now() == expected, "it jumped"
        assert load_clock(tmp_path).now() == expected
        assert load_clock(tmp_path).speed == following


def test_a_real_clock_never_steps_back(tmp_path: Path) -> None:
    before = ensure_clock(tmp_path, 1000).now()
    for speed in (1, 1000, 0.5, 1000, 1):
        now = ensure_clock(tmp_path, speed).now()
        assert now >= before
        before = load_clock(tmp_path).now()
        assert before >= now


def test_moments_as_text_sort_as_they_happened() -> None:
    east, west = timezone(timedelta(hours=8)), timezone(timedelta(hours=-5, minutes=-30))
    moments = [
        datetime(2026, 1, 1, 8, 0, tzinfo=east),
        datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
        datetime(2025, 12, 31, 19, 0, tzinfo=west),
        datetime(2026, 1, 1, 1, 0),
        datetime(2026, 1, 1, 10, 0, tzinfo=east),
    ]
    texts = [moment_text(moment) for moment in moments]
    assert texts == sorted(texts)
    assert all(text.endswith("+00:00") for text in texts)
    assert datetime.fromisoformat(texts[2]) == moments[2]


# -- a clock that is set, differs or is broken -----------------------------------


class Machine:
    """The machine's clock and stopwatch, moved by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall, self.stopwatch = 1_700_000_000.0, 50.0
        monkeypatch.setattr(time, "time", lambda: self.wall)
        monkeypatch.setattr(time, "monotonic", lambda: self.stopwatch)

    def passes(self, seconds: float) -> None:
        self.wall += seconds
        self.stopwatch += seconds


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_wall_time_follows_the_machine(machine: Machine) -> None:
    wall = WallClock()
    machine.passes(100)
    assert wall.now().timestamp() == machine.wall
    machine.wall += 3600  # the machine slept, or its clock was late
    assert wall.now().timestamp() == machine.wall
    assert wall.ahead() == 0


def test_wall_time_never_goes_back_and_comes_together_again(machine: Machine) -> None:
    wall = WallClock()
    before = wall.now()
    machine.wall -= 600
    for _ in range(60):
        machine.passes(10)
        now = wall.now()
        assert now > before, "it stands still or goes back"
        before = now
    assert wall.ahead() == pytest.approx(300), "it runs at half the speed until the other has caught up"
    machine.passes(700)
    assert wall.ahead() == 0
    assert wall.now().timestamp() == machine.wall


def test_platform_time_never_goes_back_when_the_clock_is_set(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "wall_clock", WallClock())
    start = clock.wall_now()
    platform = PlatformClock(start, start, 600)
    machine.passes(10)
    before = platform.now()
    machine.wall -= 3600
    machine.passes(1)
    assert before < platform.now() < before + timedelta(seconds=601)


def test_machines_that_follow_one_clock_agree(machine: Machine) -> None:
    """Leases and due rows are compared between machines: each is corrected to the database's clock."""
    here, ahead = WallClock(), WallClock()
    here.begin(0.0)
    ahead.begin(-90.0)
    assert (here.now() - ahead.now()) == timedelta(seconds=90), "each sees the same machine here"
    ahead.correct(-30.0)
    assert (here.now() - ahead.now()) == timedelta(seconds=30)
    ahead.correct(-60.0)  # corrected back: slowly
    machine.passes(10)
    assert ahead.ahead() == pytest.approx(25)


def test_a_restart_begins_where_the_instance_ended(machine: Machine) -> None:
    wall = WallClock()
    last = wall.now() + timedelta(hours=1)  # what it gave out before the clock was set back
    wall.begin(0.0, last)
    assert wall.now() >= last
    wall.begin(0.0)
    assert wall.now() >= last, "a second begin in one process takes nothing back"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"anchor": "2026-01-01T00:00:00+00:00"}',
        '{"anchor": "soon", "wall_anchor": "2026-01-01T00:00:00+00:00", "speed": 1}',
        '{"anchor": "2026-01-01T00:00:00", "wall_anchor": "2026-01-01T00:00:00+00:00", "speed": 1}',
        '{"anchor": "2026-01-01T00:00:00+00:00", "wall_anchor": "2026-01-01T00:00:00+00:00", "speed": 0}',
        '{"anchor": "2026-01-01T00:00:00+00:00", "wall_anchor": "2026-01-01T00:00:00+00:00", "speed": NaN}',
        '{"anchor": 5, "wall_anchor": 5, "speed": 1}',
        "\x00" * 100,
    ],
)
def test_a_broken_clock_file_is_named_and_kept(tmp_path: Path, content: str) -> None:
    path = tmp_path / "clock.json"
    path.write_text(content)
    calls: list[Callable[[], object]] = [lambda: load_clock(tmp_path), lambda: ensure_clock(tmp_path, 60)]
    for call in calls:
        with pytest.raises(Integrity) as caught:
            call()
        assert str(path) in str(caught.value)
        assert "backup" in str(caught.value)
    assert path.read_text() == content, "a new clock would move platform time"


def test_a_machine_whose_clock_stands_before_the_platforms_is_waited_for(wall: Wall, tmp_path: Path) -> None:
    ensure_clock(tmp_path, 600)
    wall.advance(-60)
    calls: list[Callable[[], object]] = [lambda: load_clock(tmp_path), lambda: ensure_clock(tmp_path, 1)]
    for call in calls:
        with pytest.raises(Retryable, match="set the machine's clock"):
            call()
    wall.advance(61)
    assert load_clock(tmp_path).now() == WALL + timedelta(seconds=600)
