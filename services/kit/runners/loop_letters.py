"""Dead letters of a loop, between the log and the database.

A loop has no database: its letters are on the `.dlq` of its case topic. They
are copied into rows, where operators see and judge them; what was decided is
told to the loop by records on its case topic: the letter's record again, or
that the letter is given up. The loop itself keeps the order, and drops what it
hears twice, so a record may be published again after a crash.

A letter is done when the loop has taken its record and no new letter of it has
come; one that failed again is open as before. Only the process whose machine
holds a partition tells and judges there, by where that machine stands.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from services.kit.bus.protocol import Bus, Consumer, Partition, Position, Producer, Record
from services.kit.errors import Retryable
from services.kit.log import get_logger
from services.kit.metrics import FENCED, RUNNER_LAG, RUNNER_RECORDS, RUNNER_UP, Metrics
from services.kit.runners.batch import RunnerState
from services.kit.runners.letters import LETTERS, REDRIVE, Letter
from services.kit.runners.loop_rows import claim, done, is_taken, keep, lane, read_letter, record_for, told
from services.kit.runners.notes import MARKS, Fenced, Making, Mark
from services.kit.store.kinds import Get, Plan, Stored, Where, Write
from services.kit.store.protocol import Store, Transaction

_log = get_logger("kit.loop_letters")
_TAKE = 20
_TAKE_SECONDS = 0.2
_LOOK_SECONDS = 0.5
_LAG_SECONDS = 2.0
#: A record that the log has not taken by then is published again at the next look.
_SENT_SECONDS = 5.0


class LoopLetters:
    """Runs beside one loop, in a thread of its own; `taken` says where the loop stands in this process."""

    generation = 1

    def __init__(
        self,
        runner: str,
        source: str,
        bus: Bus,
        store: Store,
        producer: Producer,
        metrics: Metrics,
        taken: Callable[[], Mapping[Partition, int]],
    ) -> None:
        self.name = f"{runner}.letters"
        self.status = RunnerState(self.name)
        self._runner = runner
        self._place = Partition(f"{source}.dlq", 0)
        self._bus = bus
        self._store = store
        self._producer = producer
        self._metrics = metrics
        metrics.add(FENCED, 0, part=self.name)
        self._taken = taken
        self._mark = Get(MARKS, Making(self.name).mark(self._place))
        self._next = 0
        self._looked = self._lag_at = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end; `join` waits."""
        self._stopping.set()

    def join(self, seconds: float) -> None:
        if self._thread.is_alive():
            self._thread.join(seconds)

    def positions(self) -> dict[Partition, int]:
        """The offset of the `.dlq` topic that it takes next."""
        return {self._place: self._next}

    # -- the loop -------------------------------------------------------

    def _run(self) -> None:
        reader: Consumer | None = None
        try:
            while not self._stopping.is_set():
                try:
                    reader = reader or self.open()
                    self.turn(reader)
                except Retryable as error:
                    self._lag_at = 0.0  # it is asked for again, so that what is away is not taken for back
                    self._state("waiting", str(error))
                    self._stopping.wait(_LOOK_SECONDS)
            self._state("stopped")
        except Exception as error:  # noqa: BLE001 -- the runner says why it stopped
            self._state("failed", str(error))
            _log.error("runner stopped", runner=self.name, error=repr(error), exc_info=error)
        finally:
            if reader is not None:
                reader.close()

    def open(self) -> Consumer:
        """A reader of the letters that are not stored yet."""
        self._next = self._stored()
        return self._bus.reader({self._place: self._next})

    def turn(self, reader: Consumer) -> None:
        """Store what came; now and then, tell what was decided and see what became of it."""
        self.status.beat = time.monotonic()
        self.take_in(reader, _TAKE_SECONDS)
        if time.monotonic() - self._looked >= _LOOK_SECONDS:
            self._looked = time.monotonic()
            self.look(reader)
            self._tell_lag()
            self._state("running")

    def look(self, reader: Consumer) -> None:
        """Tell what was decided, and see what became of what was told. Retryable when something is left."""
        untold, asked = Where(LETTERS, "untold", True), Where(LETTERS, "state", REDRIVE)
        found = self._store.transact(lambda txn: txn.load([untold, asked]))
        self._settle(reader, self._mine(found[asked]))
        self._tell(self._mine(found[untold]))

    # -- letters from the topic -----------------------------------------

    def take_in(self, reader: Consumer, seconds: float) -> int:
        """Store the next letters; answers how many records came."""
        records = reader.take(_TAKE, seconds)
        if not records:
            return 0
        try:
            self._store.transact(lambda txn: self._keep(txn, records))
        except Fenced:
            self._metrics.add(FENCED, part=self.name)
            self._rewind(reader, self._stored())
            return 0
        except Retryable:
            self._rewind(reader, self._next)
            raise
        self._next = records[-1].offset + 1
        self.status.records += len(records)
        self._metrics.add(RUNNER_RECORDS, len(records), runner=self.name)
        return len(records)

    def _rewind(self, reader: Consumer, offset: int) -> None:
        self._next = offset
        reader.rewind({self._place: offset})

    def _stored(self) -> int:
        found = self._store.transact(lambda txn: txn.load([self._mark]))[self._mark]
        return found[0].state.next if found else 0

    def _keep(self, txn: Transaction, records: list[Record]) -> None:
        """Rows and watermark in one transaction; Fenced when another process has moved the watermark."""
        found = txn.load([self._mark])[self._mark]
        stands, base = (found[0].state.next, found[0].version) if found else (0, 0)
        if stands != self._next:
            raise Fenced(f"{self._place.topic} stands at {stands}")
        keep(txn, filter(None, (read_letter(self._runner, record) for record in records)))
        mark = Mark(self.name, self.generation, *self._place, records[-1].offset + 1)
        txn.write(Plan((Write(MARKS, self._mark.id, base, base + 1, mark),), ()))

    # -- what was decided, and what became of it --------------------------

    def _mine(self, found: Iterable[Stored[Letter]]) -> list[Stored[Letter]]:
        """Letters of this loop whose partition this process takes, in order."""
        held = self._taken()
        mine = (one for one in found if one.state.runner == self._runner and lane(one.state) in held)
        return sorted(mine, key=lambda one: one.id)

    def _tell(self, untold: list[Stored[Letter]]) -> None:
        left: Retryable | None = None
        for key in dict.fromkeys(one.state.key or one.id for one in untold):
            if self._stopping.is_set():
                return
            self.status.beat = time.monotonic()
            try:
                self._tell_key(key)
            except Retryable as error:  # the others go on
                left = error
        if left is not None:
            raise left

    def _tell_key(self, key: str) -> None:
        for one in self._store.transact(lambda txn: claim(txn, key)):
            at = self._publish(one.state)
            self._store.transact(partial(told, claimed=one, at=at))

    def _publish(self, letter: Letter) -> Position:
        try:
            return self._producer.publish([record_for(letter)]).result(_SENT_SECONDS)[0]
        except TimeoutError:
            raise Retryable(f"{letter.record.topic} has not taken a letter's record yet") from None

    def _settle(self, reader: Consumer, asked: list[Stored[Letter]]) -> None:
        """The letters are done whose records the loop has taken, and of which no new letter came."""
        taken = self._taken()  # asked for before the end of its letters: it sends a letter before it goes on
        passed = [one for one in asked if is_taken(one.state, taken)]
        if passed and self._has_all(reader):
            for one in passed:
                self._store.transact(partial(done, passed=one))

    def _has_all(self, reader: Consumer) -> bool:
        """Are all letters stored that the topic has now?"""
        end = self._bus.log().ends([self._place.topic])[self._place]
        while self._next < end:
            if not self.take_in(reader, _TAKE_SECONDS):
                return False
        return True

    # -- telling --------------------------------------------------------

    def _state(self, state: str, detail: str = "") -> None:
        if detail and detail != self.status.detail:
            _log.warning("letters wait", runner=self.name, reason=detail)
        self.status.state, self.status.detail = state, detail
        self._metrics.set(RUNNER_UP, float(state == "running"), runner=self.name)

    def _tell_lag(self) -> None:
        if time.monotonic() - self._lag_at >= _LAG_SECONDS:
            self._lag_at = time.monotonic()
            end = self._bus.log().ends([self._place.topic])[self._place]
            self.status.lag = max(0, end - self._next)
            self._metrics.set(RUNNER_LAG, self.status.lag, runner=self.name)
