"""Records the topics of simulated worlds: `python -m tests.replay.make_recording SEED...`.

A recorded topic is never made anew: what is on a topic cannot be taken back,
and a build that answers otherwise has to say so in its views. Where a view
changes on purpose, `--views` shows what is otherwise and keeps it: to be read
before it is committed.
"""

from __future__ import annotations

import sys
from difflib import SequenceMatcher

from tests.reliability.sim.scheduler import Worlds
from tests.reliability.sim.verdict import quiet
from tests.replay import recording


def renew_views() -> None:
    """Keep the views of this build for the recorded topics, and say in what they differ."""
    for seed in recording.recorded():
        before, now = (
            recording.expected(seed),
            recording.text_of(recording.replayed(recording.records_of(seed))),
        )
        for old, new in zip(before.splitlines(), now.splitlines(), strict=False):
            if old != new:
                for said in _differences(old, new):
                    print(f"{seed}: {new[:60]}...: {said}")
        recording.save_views(seed, now)


def _differences(old: str, new: str) -> list[str]:
    steps = SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    return [f"{old[a:b]!r} -> {new[c:d]!r}" for kind, a, b, c, d in steps if kind != "equal"]


def main() -> None:
    quiet()
    if sys.argv[1:] == ["--views"]:
        renew_views()
        return
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
