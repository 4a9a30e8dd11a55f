"""The platform's clock runs at its speed, and never backwards."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from services.kit import clock
from services.kit.clock import PlatformClock, ensure_clock, load_clock
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
