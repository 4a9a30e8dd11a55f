"""The platform clock: domain time, which may run faster than the wall's.

Deadlines, ages of material and event times are platform time, so that a
simulated month can pass in minutes. Latencies and stage times are wall time.
Nothing else in the project may ask the operating system for the time.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol


class Clock(Protocol):
    """Tells both times."""

    def now(self) -> datetime:
        """Platform time, UTC."""

    def wall(self) -> datetime:
        """Wall time, UTC."""

    def until(self, moment: datetime) -> timedelta:
        """Wall time until a moment of platform time; negative when it passed."""


def wall_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class PlatformClock:
    """Platform time = anchor + (wall - wall anchor) * speed."""

    anchor: datetime
    wall_anchor: datetime
    speed: float = 1.0

    def now(self) -> datetime:
        return self.anchor + (self.wall() - self.wall_anchor) * self.speed

    def wall(self) -> datetime:
        return wall_now()

    def until(self, moment: datetime) -> timedelta:
        return (moment - self.now()) / self.speed


@dataclass
class ManualClock:
    """A clock that a test moves by hand; both times are the same."""

    moment: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.moment

    def wall(self) -> datetime:
        return self.moment

    def until(self, moment: datetime) -> timedelta:
        return moment - self.moment

    def advance(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)


def load_clock(state_dir: Path) -> PlatformClock:
    """The clock kept in the state folder; the wall's own where none was set."""
    path = state_dir / "clock.json"
    if not path.exists():
        now = wall_now()
        return PlatformClock(now, now, 1.0)
    raw = json.loads(path.read_text())
    return PlatformClock(
        datetime.fromisoformat(raw["anchor"]), datetime.fromisoformat(raw["wall_anchor"]), float(raw["speed"])
    )


def ensure_clock(state_dir: Path, speed: float) -> PlatformClock:
    """Set the clock once. A second call keeps it running, at a new speed if asked.

    The change of speed keeps platform time continuous: it never jumps back.
    """
    path = state_dir / "clock.json"
    now = wall_now()
    anchor = load_clock(state_dir).now() if path.exists() else now
    state_dir.mkdir(parents=True, exist_ok=True)
    raw = {"anchor": anchor.isoformat(), "wall_anchor": now.isoformat(), "speed": speed}
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps(raw))
    draft.replace(path)
    return PlatformClock(anchor, now, speed)
