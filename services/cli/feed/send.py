"""One file on its way: rows are judged here, sent in batches, judged there, and counted.

Each row is judged alone, here and by the service: a bad one never stops the
others. What is refused goes to the rejects file with the field and the rule.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeVar

import grpc
from google.protobuf.message import Message

from pharmaloop.common.v1 import types_pb2 as common
from services.cli.feed.columns import Layout, Values
from services.cli.feed.noun import Noun
from services.cli.feed.rejects import Rejects
from services.cli.feed.resume import Progress
from services.cli.feed.table import Fault, Row, Table
from services.cli.plain import plain
from services.cli.session import Refused, Session, UnknownSite
from services.kit.errors import Invalid

T = TypeVar("T")
#: A request holds at most so many facts, and about so many bytes: the services take 4 MB.
_MANY = 500
_BYTES = 1_000_000
_SECONDS = 60.0
_SHOWN_REJECTS = 20
_SHOWN_ROWS = 3
#: Refusals that are about what was sent; any other stops the feed.
_OF_ROWS = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
)
_PLACE = re.compile(r"\w+\[\d+\]\.?")


@dataclass
class Outcome:
    """What became of a file. `first` are the first facts as they are (or would be) sent."""

    file: str
    taken: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    rejects: str = ""
    first_rejects: list[dict[str, Any]] = field(default_factory=list)
    first: list[dict[str, Any]] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    before: bool = False
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        return self.taken + self.rejected.total()

    def document(self) -> dict[str, Any]:
        return {
            "file": self.file,
            "rows": self.rows,
            "taken": self.taken,
            "rejected": dict(sorted(self.rejected.items())),
            "rejects": self.rejects or None,
            "first_rejects": self.first_rejects,
            "first": self.first,
            "ignored_columns": self.ignored,
            "taken_before": self.before,
            **self.more,
        }


@dataclass
class Feed:
    """A file on its way, or in a dry run only looked at.

    It goes on after the row `after`. `moved` is told what is being done, and
    how much of the table's size is behind.
    """

    session: Session
    table: Table
    layout: Layout
    progress: Progress
    rejects: Rejects | None
    dry: bool
    outcome: Outcome
    moved: Callable[[str, int], None]
    after: int = 0

    def look(self) -> Feed:
        """The same file from its first row, only looked at: nothing is counted, nothing written."""
        return replace(self, rejects=None, after=0, dry=True, outcome=Outcome(self.outcome.file))

    def judged(self, judge: Callable[[Row, Values], T]) -> Iterator[tuple[Row, T]]:
        """The rows that are still to do and what `judge` makes of them; it refuses one by Invalid."""
        doing = "looking" if self.dry else "sending"
        for row in self.table.rows():
            if row.number <= self.after:
                continue
            self.moved(doing, row.done)
            values, fault = self.layout.values(row)
            try:
                if fault is None:
                    made = judge(row, values)
            except Invalid as error:
                fault = Fault(error.field, error.reason, error.description)
            if fault is None:
                yield row, made
            else:
                self.reject(row, fault)

    def reject(self, row: Row, fault: Fault) -> None:
        self.outcome.rejected[fault.rule] += 1
        if len(self.outcome.first_rejects) < _SHOWN_REJECTS:
            self.outcome.first_rejects.append({"row": row.number, **fault._asdict()})
        if self.rejects:
            self.rejects.add(row, fault)

    def take(self, rows: int) -> None:
        self.outcome.taken += rows

    def show(self, message: Message) -> None:
        """Keep one of the first messages for the summary."""
        if self.dry and len(self.outcome.first) < _SHOWN_ROWS:
            self.outcome.first.append(plain(message))

    def checkpoint(self, row: int) -> None:
        """All rows up to this one are dealt with."""
        if not self.dry:
            state = self.progress.state
            state.taken, state.rejected = self.outcome.taken, dict(self.outcome.rejected)
            self.progress.save(row, self.rejects)

    def finish(self) -> None:
        self.progress.state.finished = True
        self.checkpoint(self.progress.state.row)

    def call(self, method: Callable[..., Any], request: Message) -> Any:
        """The answer of a call; Refused when the service said no to what was sent."""
        return self.session.call(method, request, _SECONDS)

    def record(
        self, method: Callable[..., Any], request: Message, count: int
    ) -> dict[int, common.FactRefusal]:
        """Send facts, each judged alone; the refused ones by their index. A request that is refused as
        a whole refuses each of its facts."""
        try:
            receipt: common.FactReceipt = self.call(method, request).receipt
        except Refused as error:
            if error.code not in _OF_ROWS or not error.reason:
                raise
            said = common.FactRefusal(reason=error.reason, field=error.field, description=error.description)
            return dict.fromkeys(range(count), said)
        self.progress.note_places(receipt.positions)
        return {refusal.index: refusal for refusal in receipt.refused}


def fault_of(refusal: common.FactRefusal) -> Fault:
    """A service's refusal as a fault; the place in the request is left out of the field."""
    return Fault(_PLACE.sub("", refusal.field, count=1), refusal.reason, refusal.description)


# -- facts, one a row -----------------------------------------------------


class _Fact(NamedTuple):
    row: Row
    message: Message
    shared: str


def feed_facts(feed: Feed, noun: Noun) -> None:
    """Send every row of a noun's file that was not taken before."""
    if feed.outcome.before:
        return

    def judge(_: Row, values: Values) -> tuple[Message, str]:
        return noun.message(values, feed.layout), str(values[noun.shared]) if noun.shared else ""

    waiting: list[_Fact] = []
    size = last = 0
    for row, (message, shared) in feed.judged(judge):
        feed.show(message)
        waiting.append(_Fact(row, message, shared))
        size, last = size + message.ByteSize(), row.number
        if len(waiting) == _MANY or size >= _BYTES:
            _send(feed, noun, waiting)
            feed.checkpoint(last)
            waiting, size = [], 0
    _send(feed, noun, waiting)
    feed.finish()


def _send(feed: Feed, noun: Noun, facts: Sequence[_Fact]) -> None:
    for shared in dict.fromkeys(fact.shared for fact in facts):
        some = [fact for fact in facts if fact.shared == shared]
        refused: dict[int, common.FactRefusal] = {}
        if not feed.dry:
            id = feed.progress.request_id("row", str(some[0].row.number))
            request = noun.request(id, shared, [fact.message for fact in some])
            try:
                refused = feed.record(noun.method(feed.session, shared), request, len(some))
            except UnknownSite as error:
                said = common.FactRefusal(reason=error.reason, field=error.field, description=error.message)
                refused = dict.fromkeys(range(len(some)), said)
        for index, refusal in sorted(refused.items()):
            feed.reject(some[index].row, fault_of(refusal))
        feed.take(len(some) - len(refused))
