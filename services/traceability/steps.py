"""The step of the exposure protocol: note a cut, wait until the fold has passed it, go on.

It only reads (positions, ends of the log, the run's row) and submits
commands, so it may be interrupted anywhere and begun again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from google.protobuf.message import Message

from services.kit.app import App
from services.kit.bus.protocol import Log, Partition
from services.kit.runners.letters import LETTERS
from services.kit.runners.notes import PARKED
from services.kit.runners.step import Again
from services.kit.store.protocol import AsyncStore
from services.kit.work import Step
from services.traceability.domain.run import Place, Run
from services.traceability.protocol import FOLD, note_request, round_request
from services.traceability.views import RUNS

#: The fold is nearly always milliseconds behind a cut: the step waits for it in place, looks soon and then
#: ever more rarely, and after its patience makes room for others.
_LOOK_SECONDS, _RARELY_SECONDS = 0.005, 0.1
_PATIENCE_SECONDS = 1.0
_FOLDING_SECONDS = 0.05
_PARKED_SECONDS = 0.5

#: Submits a command: method, request, request id, trace.
Submit = Callable[[str, Message, str, str], Awaitable[object]]
FoldedTo = Callable[[], Awaitable[dict[Partition, int]]]


class CutStep:
    """Moves one run's protocol on until it rests or has to wait."""

    def __init__(
        self,
        store: AsyncStore,
        log: Log,
        folded_to: FoldedTo,
        submit: Submit,
        topics: Iterable[str],
        patience: float = _PATIENCE_SECONDS,
        life: str = "",
    ) -> None:
        """`topics` are those that can carry genealogy or dispenses; `patience` is in wall seconds; `life` is
        that of a database that was set back, whose rounds have the numbers of rounds that it lost."""
        self._store = store
        self._log = log
        self._folded_to = folded_to
        self._submit = submit
        self._topics = tuple(topics)
        self._patience = patience
        self._life = f"|{life}" if life else ""
        self._asking: asyncio.Future[dict[Partition, int]] | None = None

    async def __call__(self, step: Step) -> Again | None:
        while True:
            found = await self._store.get(RUNS, step.key)
            if found is None or found.state.at_rest:
                return None
            run = found.state
            if run.sealed:
                await self._command("GoOver", run)
            elif run.cut_is_open:
                if not await self._folds(run):
                    return Again(_FOLDING_SECONDS)
                await self._command("Walk", run)
            elif run.may_seal:
                if await self._lacks():
                    return Again(_PARKED_SECONDS)
                await self._command("Seal", run)
            else:
                await self._note(run)

    async def _lacks(self) -> bool:
        """Is there a record that the fold could not take, and that nobody has settled?"""
        # Counted, not read: a letter holds its record, and there may be very many.
        if await self._store.count(PARKED, {"runner": FOLD}):
            return True
        return bool(await self._store.count(LETTERS, {"runner": FOLD, "waits": True}))

    async def _note(self, run: Run) -> None:
        """Note a new cut. The run was read before the ends are: that order is the protocol."""
        ends = await asyncio.to_thread(self._log.ends, self._topics)
        cut = [Place(p.topic, p.number, end) for p, end in sorted(ends.items()) if end]
        request_id = f"{run.run}|{run.round + 1}{self._life}"
        await self._submit("NoteCut", note_request(run, cut), request_id, run.trace)

    async def _command(self, method: str, run: Run) -> None:
        request = round_request(run.run, run.round)
        await self._submit(method, request, f"{run.run}|{run.round}{self._life}", run.trace)

    async def _folds(self, run: Run) -> bool:
        """Wait until the fold has passed the cut; False when the patience is at its end."""
        loop = asyncio.get_running_loop()
        end, pause = loop.time() + self._patience, _LOOK_SECONDS
        while not self._passed(run, await self._folded()):
            if loop.time() >= end:
                return False
            await asyncio.sleep(pause)
            pause = min(2 * pause, _RARELY_SECONDS)
        return True

    async def _folded(self) -> dict[Partition, int]:
        """Where the fold stands. One question serves every run that waits: an answer that was asked for a
        moment earlier can only say less than is true."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.ensure_future(self._folded_to())
        return await asyncio.shield(self._asking)

    def _passed(self, run: Run, at: dict[Partition, int]) -> bool:
        return all(at.get(Partition(p.topic, p.partition), 0) >= p.offset for p in run.cut)


def cut_step(app: App, topics: Iterable[str]) -> CutStep:
    """The step on a running service."""

    async def submit(method: str, request: Message, request_id: str, trace: str) -> object:
        return await app.decider.submit(method, request, request_id=request_id, actor="platform", trace=trace)

    life = app.restored.life if app.restored else ""
    return CutStep(app.store, app.bus.log(), lambda: app.positions.of(FOLD), submit, topics, life=life)
