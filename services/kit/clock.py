"""The platform clock: domain time, which may run faster than the wall's.

Deadlines, ages of material and event times are platform time, so that a
simulated month can pass in minutes. Latencies and stage times are wall time.
Nothing else in the project may ask the operating system for the time.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from services.kit.errors import Integrity, Retryable


class Clock(Protocol):
    """Tells both times."""

    def now(self) -> datetime:
        """Platform time, UTC."""

    def wall(self) -> datetime:
        """Wall time, UTC."""

    def until(self, moment: datetime) -> timedelta:
        """Wall time until a moment of platform time; negative when it passed."""


#: While the wall's time that was given out is ahead of the machine's, it runs at this rate.
_SLOW = 0.5
#: Clocks that differ by less agree, for leases and due times.
SKEW_SECONDS = 1.0


class WallClock:
    """Wall time of this process: it follows the machine's clock, and never goes back.

    When the machine's clock is set back, this one runs on slowly until the other has
    caught up. It may be corrected to another clock (the database's), so that machines
    whose clocks differ agree on leases and due times.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._correction = 0.0
        self._begun = False
        self._given, self._stopwatch = time.time(), time.monotonic()

    def machine(self) -> datetime:
        """The machine's own time; for comparing clocks only."""
        return datetime.fromtimestamp(time.time(), UTC)

    def now(self) -> datetime:
        with self._lock:
            return datetime.fromtimestamp(self._advance(), UTC)

    def _advance(self) -> float:
        stopwatch = time.monotonic()
        passed, self._stopwatch = stopwatch - self._stopwatch, stopwatch
        self._given = max(time.time() + self._correction, self._given + passed * _SLOW)
        return self._given

    def ahead(self) -> float:
        """Seconds by which the time given out is ahead of the corrected clock."""
        with self._lock:
            return self._advance() - time.time() - self._correction

    def correct(self, seconds: float) -> None:
        """Follow a clock that is so many seconds ahead of the machine's."""
        with self._lock:
            self._correction = seconds

    def begin(self, correction: float, not_before: datetime | None = None) -> None:
        """Set the time before anything of this process has asked for it; later it only follows."""
        with self._lock:
            if not self._begun:
                self._given, self._begun = time.time() + correction, True
            self._correction = correction
            if not_before is not None:
                self._given = max(self._given, not_before.timestamp())


wall_clock = WallClock()


def wall_now() -> datetime:
    return wall_clock.now()


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


_FILE = "clock.json"


def load_clock(state_dir: Path) -> PlatformClock:
    """The clock kept in the state folder; the wall's own where none was set.

    Integrity when the file cannot be understood, Retryable while the machine's
    clock stands before the moment at which the platform's was set.
    """
    path = state_dir / _FILE
    try:
        text = path.read_text()
    except FileNotFoundError:
        now = wall_now()
        return PlatformClock(now, now, 1.0)
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, str(error)) from None
    kept = _parse(path, text)
    now = wall_now()
    if now < kept.wall_anchor:
        raise Retryable(
            f"this machine's clock says {now:%Y-%m-%d %H:%M:%S} UTC, and the platform's clock was set at "
            f"{kept.wall_anchor:%Y-%m-%d %H:%M:%S} ({path}): set the machine's clock, for platform "
            "time never goes back"
        )
    return kept


def _parse(path: Path, text: str) -> PlatformClock:
    try:
        raw = json.loads(text)
        anchor, wall = datetime.fromisoformat(raw["anchor"]), datetime.fromisoformat(raw["wall_anchor"])
        speed = float(raw["speed"])
    except (ValueError, TypeError, KeyError) as error:
        raise _unreadable(path, f"{type(error).__name__}: {error}") from None
    if anchor.tzinfo is None or wall.tzinfo is None or not (math.isfinite(speed) and speed > 0):
        raise _unreadable(path, "anchor and wall_anchor need an offset, speed must be above 0")
    return PlatformClock(anchor, wall, speed)


def _unreadable(path: Path, why: str) -> Integrity:
    return Integrity(
        f"the platform's clock cannot be read from {path} ({why}): bring it back from a backup or from "
        "another machine of the installation (PHARMALOOP_STATE_DIR); do not make a new one while there "
        "are data, for platform time would jump"
    )


def ensure_clock(state_dir: Path, speed: float, *, keep: bool = False) -> PlatformClock:
    """Set the clock once. A second call keeps it running, at a new speed if asked; with `keep` a clock
    that is set stays as it is, and `speed` is for where none was.

    The change of speed keeps platform time continuous: it never jumps back.
    """
    path = state_dir / _FILE
    before = load_clock(state_dir) if path.exists() else None
    if before and keep:
        return before
    now = wall_now()
    anchor = before.anchor + (now - before.wall_anchor) * before.speed if before else now
    state_dir.mkdir(parents=True, exist_ok=True)
    raw = {"anchor": anchor.isoformat(), "wall_anchor": now.isoformat(), "speed": speed}
    draft = path.with_suffix(f".{os.getpid()}")
    with draft.open("w") as file:
        file.write(json.dumps(raw))
        # On the disk before it takes the old one's place: a half-written clock is none.
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    return PlatformClock(anchor, now, speed)
