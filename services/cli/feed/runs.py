"""Readings on their way: equipment is registered, lots are started and completed, chunk by chunk.

The file is read twice: first to see which equipment, tags and lots it has,
and when each lot's first and last reading was; then to send.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as api
from services.cli.feed.batches import Batch, Chunk, batches
from services.cli.feed.columns import Values
from services.cli.feed.moments import stamp_of
from services.cli.feed.readings import Form, Sample
from services.cli.feed.send import Feed, fault_of
from services.cli.feed.table import Fault, Row
from services.cli.session import Refused

_OF_TAG = re.compile(r"batches\[\d+\]\.tags\[(\d+)\]")
_SHOWN_SAMPLES = 3


@dataclass(frozen=True)
class Wishes:
    """What else the user wants: equipment not registered, lots not completed."""

    register: bool = True
    complete: bool = True


@dataclass
class LotRun:
    """A lot's run in the file: its equipment, when it began and ended, and its first and last row."""

    equipment: str
    began: datetime
    ended: datetime
    first: int
    last: int


@dataclass
class Survey:
    """What a file has: by equipment its plant and its tags with their units, and the runs by lot."""

    plants: dict[str, str] = field(default_factory=dict)
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    runs: dict[str, LotRun] = field(default_factory=dict)

    def note(self, sample: Sample) -> None:
        number = sample.row.number
        self.plants.setdefault(sample.equipment, sample.plant)
        tags = self.tags.setdefault(sample.equipment, {})
        tags.update((reading.tag, reading.unit) for reading in sample.readings)
        run = self.runs.get(sample.lot)
        if run is None:
            self.runs[sample.lot] = LotRun(sample.equipment, sample.at, sample.at, number, number)
            return
        run.began, run.ended = min(run.began, sample.at), max(run.ended, sample.at)
        run.last = number

    def document(self) -> dict[str, Any]:
        return {"equipment": self.tags, "lots": sorted(self.runs)}


class Runs:
    """Sends the readings of one file."""

    def __init__(self, feed: Feed, form: Form, wishes: Wishes) -> None:
        self._feed = feed
        self._form = form
        self._wishes = wishes
        self._registered: set[str] = set()
        self.survey = Survey()

    def look(self) -> None:
        """Look the whole file over; all of a dry run."""
        looking = self._feed if self._feed.dry else self._feed.look()
        for chunk in self._chunks(looking):
            looking.take(len(chunk.samples))
            for sample in chunk.samples:
                self.survey.note(sample)
            if not looking.outcome.first:
                for batch in batches(chunk.samples[:_SHOWN_SAMPLES]):
                    looking.show(batch.message)
        self._feed.outcome.more = self.survey.document()

    def send(self) -> None:
        """Send the file, after the look."""
        for chunk in self._chunks(self._feed):
            self._send(chunk)
        self._feed.finish()

    def _chunks(self, feed: Feed) -> Iterator[Chunk]:
        """The samples still to do, chunk by chunk; the same chunks at every start."""
        chunk = Chunk()

        def judge(row: Row, values: Values) -> None:
            chunk.add(self._form.sample(row, values))

        for _ in feed.judged(judge):
            if chunk.full:
                yield chunk
                chunk = Chunk()
        yield chunk

    # -- a chunk ------------------------------------------------------------

    def _send(self, chunk: Chunk) -> None:
        numbers = {sample.row.number for sample in chunk.samples}
        runs = {sample.lot: self.survey.runs[sample.lot] for sample in chunk.samples}
        for lot, run in runs.items():
            if run.first in numbers:
                self._start(lot, run)
        refused = self._record(chunk.samples)
        for sample in chunk.samples:
            if fault := refused.get(sample.row.number):
                self._feed.reject(sample.row, fault)
        self._feed.take(len(chunk.samples) - len(refused))
        for lot, run in runs.items():
            if run.last in numbers and self._wishes.complete:
                self._complete(lot, run)
        if chunk.samples:
            self._feed.checkpoint(max(numbers))

    def _record(self, samples: Sequence[Sample]) -> dict[int, Fault]:
        """Send the samples; the refused rows. What shared a batch with one is sent again without it."""
        refused: dict[int, Fault] = {}
        waiting, turn = list(samples), 0
        while waiting:
            made = batches(waiting)
            id = self._feed.progress.request_id("readings", str(waiting[0].row.number), str(turn))
            request = api.RecordReadingsRequest(request_id=id, batches=[batch.message for batch in made])
            known = set(self._registered)
            answers = self._feed.record(self._feed.session.production.RecordReadings, request, len(made))
            again: set[int] = set()
            for index, refusal in answers.items():
                batch = made[index]
                again.update(number for rows in batch.rows for number in rows)
                if not self._is_new(refusal, batch.message.equipment, known):
                    refused.update(_refused_rows(batch, refusal))
            waiting = [one for one in waiting if one.row.number in again and one.row.number not in refused]
            turn += 1
        return refused

    def _is_new(self, refusal: common.FactRefusal, equipment: str, known: set[str]) -> bool:
        """Was it refused because nobody knew the equipment? Then it is registered now."""
        if refusal.reason != "UNKNOWN_EQUIPMENT" or equipment in known or not self._wishes.register:
            return False
        if equipment not in self._registered:
            self._register(equipment)
        return True

    # -- equipment and lots ---------------------------------------------------

    def _register(self, equipment: str) -> None:
        """Make the equipment known with all the tags that the file has of it."""
        set_points = set(self._form.layout.mapping.set_points)
        tags = [
            events.Tag(name=name, unit=unit, set_point=name in set_points)
            for name, unit in self.survey.tags[equipment].items()
        ]
        request = api.RegisterEquipmentRequest(
            request_id=self._feed.progress.request_id("register", equipment),
            equipment=equipment,
            plant=self.survey.plants[equipment],
            tags=tags,
        )
        self._feed.call(self._feed.session.production.RegisterEquipment, request)
        self._registered.add(equipment)

    def _start(self, lot: str, run: LotRun, turn: int = 0) -> None:
        """Start the lot at its first reading; one that was started before stays as it is."""
        request = api.StartLotRequest(
            request_id=self._feed.progress.request_id("start", lot, str(turn)),
            lot=lot,
            equipment=run.equipment,
            at=stamp_of(run.began),
        )
        try:
            self._feed.call(self._feed.session.production.StartLot, request)
        except Refused as error:
            if error.reason == "UNKNOWN_EQUIPMENT" and self._wishes.register and not turn:
                self._register(run.equipment)
                self._start(lot, run, turn + 1)
            elif error.reason not in ("ILLEGAL_TRANSITION", "UNKNOWN_EQUIPMENT"):
                raise

    def _complete(self, lot: str, run: LotRun) -> None:
        """End the lot's run at its last reading; one that has ended, or never began, stays as it is."""
        request = api.CompleteLotRequest(
            request_id=self._feed.progress.request_id("complete", lot), lot=lot, at=stamp_of(run.ended)
        )
        try:
            self._feed.call(self._feed.session.production.CompleteLot, request)
        except Refused as error:
            if error.reason not in ("ILLEGAL_TRANSITION", "UNKNOWN_LOT"):
                raise


def _refused_rows(batch: Batch, refusal: common.FactRefusal) -> dict[int, Fault]:
    """The rows that a refusal is about: those of one tag, or all of the batch."""
    if found := _OF_TAG.match(refusal.field):
        tag = int(found[1])
        fault = Fault(batch.message.tags[tag].tag, refusal.reason, refusal.description)
        return dict.fromkeys(batch.rows[tag], fault)
    return dict.fromkeys((number for rows in batch.rows for number in rows), fault_of(refusal))
