"""A database alone is set back while the log goes on: what was in flight comes to its end all the same."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.traceability.v1 import events_pb2 as events
from pharmaloop.traceability.v1 import service_pb2 as api
from services.kit.envelope import Event
from tests.integration.test_traceability import SITE, Trace, digest_by_the_site, register, running, until
from tests.snapshots import Dump, dumped, set_back


class Course:
    """One recall on its way; `saved` are copies of the database from on the way, by where they were made."""

    def __init__(self, save: Callable[[], Dump]) -> None:
        self._save = save
        self.run = str(uuid.uuid4())
        self.saved: dict[str, Dump] = {}

    async def begin(self, trace: Trace) -> None:
        """Lots and patients, and the run up to its first announcement."""
        await register(trace)
        await trace.record(trace.material("bulk", "raw"), trace.material("pack1", "bulk"))
        await trace.record(*(trace.dispense(f"o{n}", "pack1") for n in range(5)))
        self.saved["not opened"] = self._save()
        await trace.open(self.run, "raw")
        await trace.until_phase(self.run, "open")
        self.saved["walked"] = self._save()

    async def go_on(self, trace: Trace) -> None:
        """A pack more, patients more; sealed; and somebody after the seal."""
        await trace.record(trace.material("pack2", "bulk"))
        await trace.record(trace.dispense("o5", "pack2"), trace.dispense("o6", "pack1"))

        async def grown() -> int:
            shown = await trace.stub.GetExposure(api.GetExposureRequest(run=self.run), timeout=5)
            whole = shown.phase == "open" and shown.announced.sites[SITE].n == 7
            return shown.announced.version if whole else 0

        await self.ask(trace, await until(grown), 2)
        await trace.until_phase(self.run, "sealed")
        self.saved["sealed"] = self._save()
        await trace.record(trace.dispense("late", "pack1"))
        await trace.told(self.run, events.ExposureAfterSeal)

    async def ask(self, trace: Trace, version: int, seq: int) -> None:
        await trace.say(
            loops.SealRequested(run=self.run, version=version), seq=seq, case=trace.lot("raw"), run=self.run
        )


def entered(told: list[Event]) -> list[str]:
    """Dispenses that joined, as the site was told, each event once."""
    bulks = {e.id: e.message for e in told if isinstance(e.message, events.ExposureEntriesJoined)}
    return sorted(entry.dispense for bulk in bulks.values() for entry in bulk.entries)


@pytest.mark.parametrize("moment", ["not opened", "walked", "sealed"])
async def test_a_recall_whose_database_was_set_back_is_what_its_topics_say(
    backbone: str, mongo: str, tmp_path: Path, moment: str
) -> None:
    product = uuid.uuid4().hex
    async with running(backbone, mongo, tmp_path, product) as first:
        database = first.app.settings.database
        course = Course(lambda: dumped(mongo, database))
        await course.begin(first)
        await course.go_on(first)
        before = await first.told(course.run, events.ExposureAfterSeal)
    set_back(mongo, database, course.saved[moment])
    async with running(backbone, mongo, tmp_path, product, database) as again:
        await again.until_phase(course.run, "sealed")
        assert len(entered(before)) == 7
        await again.record(again.dispense("later", "pack2"))
        told = await again.told(course.run, events.ExposureAfterSeal)
        assert {(e.seq, e.id) for e in told} == {(e.seq, e.id) for e in before}, "nothing is said anew"
        assert SITE in {e.message.site for e in told if isinstance(e.message, events.ExposureOpened)}
        digest_by_the_site(again.app, told)
