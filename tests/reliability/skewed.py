"""Runs a service whose machine has another time: `python -m tests.reliability.skewed SECONDS SERVICE ROLE`.

The kit asks the machine for the time in one module only, so setting that module's clock off is what
a wrong machine does to leases, steps and the times of decisions. Not the whole process's: gRPC
would compare its own clock, which is right, with a wrong one, and no call would have time left.
"""

from __future__ import annotations

import runpy
import sys
import time
from types import SimpleNamespace

from services.kit import clock


def main() -> None:
    seconds, service, role = float(sys.argv[1]), sys.argv[2], sys.argv[3]
    wrong = SimpleNamespace(time=lambda: time.time() + seconds, monotonic=time.monotonic)
    vars(clock)["time"] = wrong
    vars(clock.wall_clock)["_given"] = wrong.time()
    sys.argv = [f"services.{service}.main", "--role", role]
    runpy.run_module(f"services.{service}.main", run_name="__main__")


if __name__ == "__main__":
    main()
