"""What was sent, kept on disk so that a second start goes on where the first stopped.

The file may be behind by what was in flight when the process died. That is
safe: every request id is made from what it says, so a repeat has one effect.
"""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

FILE = "progress.json"


class OtherWorld(Exception):
    """The state folder holds another world."""


class Progress:
    """Steps that are done, counters of steps that go on, and places in the log."""

    def __init__(self, folder: Path, seed: int, size: str, now: datetime) -> None:
        self._path = folder / FILE
        self.seed, self.size = seed, size
        self.anchor = now
        self._done: set[str] = set()
        self._counts: dict[str, int] = {}
        self._places: dict[str, int] = {}
        if self._path.exists():
            self._load(json.loads(self._path.read_text()))

    def _load(self, raw: dict[str, Any]) -> None:
        if (raw["seed"], raw["size"]) != (self.seed, self.size):
            raise OtherWorld(
                f"{self._path.parent} holds the world {raw['size']} of seed {raw['seed']}; "
                f"start it with --seed {raw['seed']} and its size, or forget it with 'make clean'"
            )
        self.anchor = datetime.fromisoformat(raw["anchor"])
        self._done = set(raw["done"])
        self._counts = raw["counts"]
        self._places = raw["places"]

    @property
    def folder(self) -> Path:
        """The world's own folder."""
        return self._path.parent

    def is_done(self, step: str) -> bool:
        return step in self._done

    def finish(self, step: str) -> None:
        self._done.add(step)
        self.save()

    def finished(self, prefix: str) -> int:
        """How many steps of a kind are done."""
        return sum(step.startswith(prefix) for step in self._done)

    def count(self, name: str) -> int:
        return self._counts.get(name, 0)

    def set_count(self, name: str, value: int) -> None:
        self._counts[name] = value
        self.save()

    def note_place(self, topic: str, partition: int, offset: int) -> None:
        """Remember the highest offset written to a partition."""
        name = f"{topic}:{partition}"
        self._places[name] = max(offset, self._places.get(name, -1))

    def places(self) -> list[tuple[str, int, int]]:
        found: list[tuple[str, int, int]] = []
        for name, offset in sorted(self._places.items()):
            topic, partition = name.rsplit(":", 1)
            found.append((topic, int(partition), offset))
        return found

    def save(self) -> None:
        """Write the file; whole or not at all."""
        raw = {
            "seed": self.seed,
            "size": self.size,
            "anchor": self.anchor.isoformat(),
            "done": sorted(self._done),
            "counts": self._counts,
            "places": self._places,
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        draft = self._path.with_suffix(".draft")
        draft.write_text(json.dumps(raw))
        draft.replace(self._path)
