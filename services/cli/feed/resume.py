"""How far a file has been fed, kept on disk so that a second start goes on.

The file is named after what it is about: the bytes of the input, the mapping,
and the noun. It may be behind by what was in flight when the feed died. That
is safe: every request id is made from the same three and the row, so that
what is sent again has one effect.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import msgspec

from pharmaloop.common.v1 import types_pb2 as common
from services.cli.feed.mapping import Mapping
from services.cli.feed.rejects import Rejects
from services.cli.feed.table import Table
from services.cli.session import Failure
from services.kit.ids import derived_id


class State(msgspec.Struct):
    """What the file holds.

    `round` counts how often the input was begun; all rows up to `row` are dealt
    with. `rejects` is the file of the rejected ones, of `rejects_bytes` at that
    row. `places` are the last offsets that were written, by topic and partition.
    """

    round: int = 1
    row: int = 0
    taken: int = 0
    rejected: dict[str, int] = msgspec.field(default_factory=dict)
    rejects: str = ""
    rejects_bytes: int = 0
    places: dict[str, dict[int, int]] = msgspec.field(default_factory=dict)
    finished: bool = False


class Progress:
    """The progress of one input towards one platform; without a folder nothing is kept (a dry run).

    `platform` is whatever tells one platform from another: where its services listen.
    """

    def __init__(
        self, folder: Path | None, table: Table, mapping: Mapping, noun: str, platform: str = ""
    ) -> None:
        self._key = _digest(table.digest, mapping.canonical(), noun)
        name = f"{noun}-{_digest(self._key, platform)[:24]}.json"
        self._path = folder / name if folder else None
        self.state = self._read()

    def _read(self) -> State:
        if self._path is None or not self._path.exists():
            return State()
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=State)
        except (msgspec.DecodeError, OSError):
            return State()  # beginning anew sends again what was sent, to no effect

    def begin(self, rejects: Path, *, again: bool) -> bool:
        """Go on where the last start stopped; False where the file has been taken whole.

        What is finished with rejects is begun anew: what refused them may have changed.
        """
        state = self.state
        if state.finished and not state.rejected and not again:
            return False
        torn = state.rejects_bytes > 0 and not (
            state.rejects == str(rejects.resolve())
            and rejects.exists()
            and rejects.stat().st_size >= state.rejects_bytes
        )
        if again or torn or state.finished:
            self.state = State(round=state.round + 1)
        self.state.rejects = str(rejects.resolve())
        return True

    def request_id(self, *what: str) -> str:
        """Id of a request about this input: the same for the same part in the same round."""
        return derived_id("feed", self._key, str(self.state.round), *what)

    def note_places(self, positions: common.PositionVector) -> None:
        for place in positions.positions:
            known = self.state.places.setdefault(place.topic, {})
            known[place.partition] = max(place.offset, known.get(place.partition, -1))

    def places(self) -> common.PositionVector:
        """The last offsets that were written."""
        return common.PositionVector(
            positions=[
                common.LogPosition(topic=topic, partition=partition, offset=offset)
                for topic, offsets in sorted(self.state.places.items())
                for partition, offset in sorted(offsets.items())
            ]
        )

    def save(self, row: int, rejects: Rejects | None) -> None:
        """All rows up to this one are dealt with. Written whole or not at all."""
        self.state.row = row
        self.state.rejects_bytes = rejects.flush() if rejects else 0
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fresh = self._path.with_suffix(".new")
            fresh.write_bytes(msgspec.json.encode(self.state))
            os.replace(fresh, self._path)
        except OSError as error:
            raise Failure(f"the progress cannot be kept in {self._path.parent} ({error.strerror})") from None


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
