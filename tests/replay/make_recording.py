"""Records the topics of simulated worlds: `python -m tests.replay.make_recording SEED...`.

A recording that exists is never made anew: what is on a topic cannot be taken
back, and a build that answers otherwise has to say so in its views.
"""

from __future__ import annotations

import sys

from tests.reliability.sim.scheduler import Worlds
from tests.reliability.sim.verdict import quiet
from tests.replay import recording


def main() -> None:
    quiet()
    for seed in map(int, sys.argv[1:]):
        if seed in recording.recorded():
            print(f"{seed} is recorded already")
            continue
        worlds = Worlds(seed)
        worlds.run()
        records = worlds.disturbed.log.all()
        recording.save(seed, records)
        print(f"{seed}: {len(records)} records, {recording.log_file(seed).stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
