"""Runs a service whose machine has another time: `python -m tests.reliability.skewed SECONDS SERVICE ROLE`.

The kit's module is the only clock of a service, so setting it off here is what a
wrong clock on a machine does to leases, steps and the times of decisions. Platform
time runs at another speed in these tests; it is off by as many seconds of its own.
"""

from __future__ import annotations

import runpy
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from services.kit import clock


def main() -> None:
    seconds, service, role = float(sys.argv[1]), sys.argv[2], sys.argv[3]

    def wrong() -> datetime:
        return datetime.now(UTC) + timedelta(seconds=seconds)

    load_clock = clock.load_clock

    def wrong_platform(state_dir: Path) -> clock.PlatformClock:
        right = load_clock(state_dir)
        return replace(right, anchor=right.anchor + timedelta(seconds=seconds))

    clock.wall_now, clock.load_clock = wrong, wrong_platform
    sys.argv = [f"services.{service}.main", "--role", role]
    runpy.run_module(f"services.{service}.main", run_name="__main__")


if __name__ == "__main__":
    main()
