"""What is looked for in the calls of a partner's program, and what was found.

Pure: calls come in as they were seen, a verdict for each check comes out. The rules are those of
docs/partners (idempotency, positions, limits). Nothing is right that was not seen: what has no
evidence yet is "not seen".
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from pharmaloop.traceability.v1 import events_pb2 as events
from services.kit.errors import Invalid
from services.kit.ids import parse_lot

RIGHT, WRONG, NOT_SEEN = "right", "WRONG", "not seen"
#: Three waits with full jitter from 0.1, 0.2 and 0.4 s are shorter than this once in 5,000 runs.
LEAST_WAIT_SECONDS = 0.02
#: How far a source's clock may be ahead.
_AHEAD = timedelta(minutes=5)
#: Only what happened just now tells of a clock: of an old moment nobody knows whether it is hours too late.
_NOW = timedelta(hours=1)
#: A program that has not come back for so long has stopped: longer than the longest wait between two tries.
QUIET_SECONDS = 12.0
_HALF_HOUR = 30
_MOST_OFFSET_MINUTES = 18 * 60

#: Every check: its name and what a program that passes does.
SEND_CHECKS = {
    "deadline": "every call has a deadline",
    "actor": "every call says who calls (metadata x-actor)",
    "request id": "every request has an id, and another request another one",
    "retry": "a call that failed with UNAVAILABLE is sent again, the same bytes under the same id",
    "backoff": "it waits before it sends again",
    "lost answer": "a request whose answer was lost is sent again, unchanged",
    "refusals": "a refused record is not sent again as it was, and the others go on",
    "clock": "moments are in UTC, with the offset of their source, and not in the future",
    "data": "records are well-formed: whole lot keys, an order, finite quantities with units, pseudonyms",
}
WATCH_CHECKS = {
    "watch deadline": "the subscription has a deadline, and says who calls",
    "resumption": "after a cut it goes on after the last position that it was told",
    "unknown values": "a state that the program does not know does not stop it",
    "begin anew": "a position that is refused as OUT_OF_RANGE is not asked for again",
}


@dataclass(frozen=True)
class Verdict:
    """What became of one check. `detail` says what was wrong and what to do."""

    check: str
    outcome: str
    detail: str = ""


@dataclass(frozen=True)
class Call:
    """One RecordDispense as it was seen. `outcome` is what it was answered with; `seconds` is monotonic."""

    request_id: str
    payload: bytes
    dispenses: Sequence[events.DispenseRecorded]
    seconds: float
    deadline: bool
    actor: str
    outcome: str  # "UNAVAILABLE", "LOST" (it took effect, and no answer came) or "OK"
    refused: frozenset[bytes] = frozenset()


@dataclass(frozen=True)
class Watch:
    """One WatchLots as it was seen: what it asked for, and the position that had been told before."""

    after: bytes
    told: bytes
    deadline: bool
    actor: str
    outcome: str  # how the stream ended: "CUT" or "OUT_OF_RANGE"
    held: bool = field(default=False)  # was it there until the sandbox ended it?
    from_start: bool = field(default=False)
    seconds: float = field(default=0.0)  # when it began, monotonic


def judge_send(calls: Sequence[Call], now: datetime) -> list[Verdict]:
    """A verdict for each check of sending, in their order; `now` is the sandbox's time."""
    if not calls:
        return [Verdict(check, NOT_SEEN, "the program never called RecordDispense") for check in SEND_CHECKS]
    return [
        _of("deadline", "give the call a timeout: 10 s is usual", sum(not c.deadline for c in calls)),
        _of("actor", "send the metadata x-actor", sum(not c.actor for c in calls)),
        _request_ids(calls),
        _retried("retry", calls, "UNAVAILABLE"),
        _waits(calls),
        _retried("lost answer", calls, "LOST"),
        _refusals(calls),
        _clock(calls, now),
        _data(calls),
    ]


def judge_watch(watches: Sequence[Watch], now: float, quiet: float = QUIET_SECONDS) -> list[Verdict]:
    """A verdict for each check of watching, in their order; `now` is by the clock of the watches' seconds.

    A program that has asked for nothing for `quiet` seconds is taken to have stopped.
    """
    if not watches:
        return [Verdict(check, NOT_SEEN, "the program never called WatchLots") for check in WATCH_CHECKS]
    bare = sum(not (one.deadline and one.actor) for one in watches)
    stopped = now - watches[-1].seconds >= quiet
    return [
        _of("watch deadline", "give the subscription a timeout (an hour) and the metadata x-actor", bare),
        _resumed(watches),
        _unknown(watches, stopped),
        _anew(watches, stopped),
    ]


def _of(check: str, remedy: str, wrong: int) -> Verdict:
    return Verdict(check, WRONG, f"{wrong} calls without: {remedy}") if wrong else Verdict(check, RIGHT)


def _request_ids(calls: Iterable[Call]) -> Verdict:
    contents: dict[str, bytes] = {}
    for call in calls:
        if not call.request_id:
            return Verdict("request id", WRONG, "a request has none: make it before the first try")
        if contents.setdefault(call.request_id, call.payload) != call.payload:
            told = f"{call.request_id!r} was used for two requests: the second may get the first one's answer"
            return Verdict("request id", WRONG, told)
    if len(set(contents.values())) < 2:
        return Verdict("request id", NOT_SEEN, "one request came: send more rows, in two requests or more")
    return Verdict("request id", RIGHT)


def _retried(check: str, calls: Sequence[Call], outcome: str) -> Verdict:
    failed = [number for number, call in enumerate(calls) if call.outcome == outcome]
    if not failed:
        return Verdict(check, NOT_SEEN, "send more rows, or wait until the sandbox has answered all")
    for number in failed:
        call, later = calls[number], calls[number + 1 :]
        if any((c.request_id, c.payload) == (call.request_id, call.payload) for c in later):
            continue
        rows = {one.SerializeToString() for one in call.dispenses}
        if any(rows & {one.SerializeToString() for one in c.dispenses} for c in later):
            told = "the rows came again under another id, or cut otherwise: send the same request"
        else:
            told = "the request never came again: its rows are lost, or nobody knows whether they count"
        return Verdict(check, WRONG, told)
    return Verdict(check, RIGHT)


def _waits(calls: Sequence[Call]) -> Verdict:
    waits = [b.seconds - a.seconds for a, b in pairwise(calls) if a.outcome != "OK"]
    if len(waits) < 3:
        return Verdict("backoff", NOT_SEEN, "too few calls came again to tell")
    if sum(waits) < LEAST_WAIT_SECONDS:
        told = f"{len(waits)} tries within {sum(waits) * 1000:.0f} ms: wait longer after each, at random"
        return Verdict("backoff", WRONG, told)
    return Verdict("backoff", RIGHT)


def _refusals(calls: Sequence[Call]) -> Verdict:
    refused: set[bytes] = set()
    went_on = False
    for call in calls:
        went_on = went_on or bool(refused)
        again = refused & {one.SerializeToString() for one in call.dispenses}
        if again and call.outcome == "OK":
            told = "a refused record came again as it was: write it to a rejects file"
            return Verdict("refusals", WRONG, told)
        refused |= call.refused
    if not refused:
        return Verdict("refusals", NOT_SEEN, "no request came that could be refused in part")
    if not went_on:
        return Verdict("refusals", NOT_SEEN, "no request came after the refused record: send more rows")
    return Verdict("refusals", RIGHT)


def _clock(calls: Sequence[Call], now: datetime) -> Verdict:
    just_now = False
    for record in _records(calls):
        if not record.at.HasField("at"):
            continue  # said by the check of data
        if abs(record.at.offset_minutes) > _MOST_OFFSET_MINUTES:
            return Verdict("clock", WRONG, f"order {record.order}: an offset is in minutes, 18 hours at most")
        ahead = record.at.at.ToDatetime(tzinfo=UTC) - now
        if ahead > _AHEAD:
            return Verdict("clock", WRONG, f"order {record.order} {_ahead(ahead)}")
        just_now = just_now or -ahead <= _NOW
    if not just_now:
        told = "no record is of the last hour, which alone tells of a clock: send one that is of now"
        return Verdict("clock", NOT_SEEN, told)
    return Verdict("clock", RIGHT)


def _ahead(ahead: timedelta) -> str:
    minutes = round(ahead.total_seconds() / 60)
    told = f"is {minutes} minutes in the future: set the clock of its source"
    near = round(minutes / _HALF_HOUR) * _HALF_HOUR
    if abs(minutes - near) <= 5 and 0 < near <= 14 * 60:
        return f"{told}, or it is local time (UTC+{near / 60:g} h) that was sent as UTC"
    return told


def _data(calls: Sequence[Call]) -> Verdict:
    records = _records(calls)
    if not records:
        return Verdict("data", NOT_SEEN, "no request had a record in it")
    broken = Counter(problem for record in records if (problem := _problem(record)))
    if not broken:
        return Verdict("data", RIGHT)
    told = "; ".join(f"{problem} ({count} records)" for problem, count in broken.most_common())
    return Verdict("data", WRONG, told)


def _records(calls: Iterable[Call]) -> list[events.DispenseRecorded]:
    """Every record once, however often it came."""
    return list({one.SerializeToString(): one for call in calls for one in call.dispenses}.values())


def problem_of_form(record: events.DispenseRecorded) -> tuple[str, str, str]:
    """(reason, field, description) of what the platform would refuse; three empty texts where it is fine."""
    try:
        parse_lot(record.lot)
    except Invalid as error:
        return error.reason, error.field, error.description
    if not record.order:
        return "REQUIRED", "order", "order must be given"
    if not record.at.HasField("at"):
        return "REQUIRED", "at", "say when it happened"
    value = record.quantity.value
    if record.HasField("quantity") and (not math.isfinite(value) or value < 0):
        return "OUT_OF_RANGE", "quantity.value", "the quantity must be finite and not negative"
    if record.HasField("quantity") and not record.quantity.unit:
        return "BAD_UNIT", "quantity.unit", "give the UCUM unit, for example {tablet}"
    return "", "", ""


def _problem(record: events.DispenseRecorded) -> str:
    reason, field_, _ = problem_of_form(record)
    if reason:
        return f"{reason} at {field_}"
    if any(letter.isspace() for letter in record.pseudonym):
        return "a pseudonym has blanks, as names have: send what the hospital gave"
    return ""


def _resumed(watches: Sequence[Watch]) -> Verdict:
    # What comes after a refused position begins anew; that is judged by itself.
    again = [one for before, one in pairwise(watches) if before.outcome == "CUT"]
    if not again:
        return Verdict("resumption", NOT_SEEN, "the program did not come back after a cut")
    if any(not one.after for one in again):
        told = "it came back without a position: what came in between is lost, or told anew"
        return Verdict("resumption", WRONG, told)
    if any(one.after != one.told for one in again):
        told = "it came back with another position than the last: store all of it, after acting"
        return Verdict("resumption", WRONG, told)
    return Verdict("resumption", RIGHT)


def _unknown(watches: Sequence[Watch], stopped: bool) -> Verdict:
    if len(watches) < 2 or (len(watches) < 3 and not stopped):
        return Verdict("unknown values", NOT_SEEN, "the program did not come back after a cut")
    if not watches[1].held or len(watches) < 3:
        told = "it went away at a state of number 99: treat what you do not know as unspecified"
        return Verdict("unknown values", WRONG, told)
    return Verdict("unknown values", RIGHT)


def _anew(watches: Sequence[Watch], stopped: bool) -> Verdict:
    refused = next((n for n, one in enumerate(watches) if one.outcome == "OUT_OF_RANGE"), None)
    if refused is None:
        return Verdict("begin anew", NOT_SEEN, "no position was given that could be refused")
    if any(one.after == watches[refused].after for one in watches[refused + 1 :]):
        told = "it asked again with the same position: begin anew with from_start, or stop and say so"
        return Verdict("begin anew", WRONG, told)
    later = watches[refused + 1 : refused + 2]
    if not later and not stopped:
        return Verdict("begin anew", NOT_SEEN, "nobody knows yet whether it comes back, or has stopped")
    if later and not (later[0].after or later[0].from_start):
        told = "it went on from now, and what came in between is lost: begin anew with from_start"
        return Verdict("begin anew", WRONG, told)
    return Verdict("begin anew", RIGHT)
