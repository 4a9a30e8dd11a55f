"""Compare what the platform answered with what the world planted. Pure.

The loop is judged per confirmed lot, over all its runs and sites together:
every dispense of the truth must be among the exposures, and nothing else. A
record that its source took back may be listed, as corrected; nobody is missed
where it is not. The detector is measured beside it and never decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

CORRECTED = "CORRECTED"


class Member(NamedTuple):
    """One dispense of one patient."""

    site: str
    pseudonym: str
    dispense: str


class Named(NamedTuple):
    """What a site says of a member: may it be from another lot, and what became of it."""

    possible: bool
    disposition: str


@dataclass(frozen=True)
class Alarm:
    """A deviation as the platform lists it; `detected` is process time, UTC."""

    lot: str
    tag: str
    state: str
    detected: datetime


@dataclass(frozen=True)
class RunSeen:
    """A run of the loop as the platform lists it; `stages` in wall seconds."""

    run: str
    lot: str
    closed: bool
    seconds: float
    stages: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Answers:
    """Everything that the platform said: `exposures` by root lot, `completed` the live runs that ended."""

    alarms: Sequence[Alarm]
    runs: Sequence[RunSeen]
    exposures: Mapping[str, Mapping[Member, Named]]
    completed: Set[str]


@dataclass(frozen=True)
class Fault:
    """A planted fault: the tags that show it, when it begins, and how often a sample is taken."""

    kind: str
    tags: frozenset[str]
    onset: datetime
    sample_seconds: float


@dataclass(frozen=True)
class Truth:
    """What was planted: every lot there is, and by lot its members with what became of each; records
    that were taken back; and those members that may be from another lot instead."""

    lots: set[str] = field(default_factory=set)
    planted: dict[str, Fault] = field(default_factory=dict)
    live: set[str] = field(default_factory=set)
    exposures: dict[str, dict[Member, str]] = field(default_factory=dict)
    corrected: dict[str, dict[Member, str]] = field(default_factory=dict)
    possible: dict[str, set[Member]] = field(default_factory=dict)


@dataclass
class Verdict:
    """The document that is printed, and why the check fails."""

    safety: dict[str, Any]
    detector: dict[str, Any]
    failures: list[str] = field(default_factory=list)
    effects: dict[str, Any] = field(default_factory=dict)
    #: The other two loops and a lineage, where the world has a medicine that is developed.
    others: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return not self.failures

    def document(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "failures": self.failures,
            "safety": self.safety,
            "detector": self.detector,
            "effects": self.effects,
            **self.others,
        }


def confirmed_lots(alarms: Sequence[Alarm]) -> list[str]:
    return sorted({alarm.lot for alarm in alarms if alarm.state == "confirmed"})


def judge(truth: Truth, answers: Answers) -> Verdict:
    """The verdict on a world."""
    confirmed = confirmed_lots(answers.alarms)
    lots = [_judge_lot(lot, truth, answers) for lot in confirmed]
    closed = [run for run in answers.runs if run.closed]
    expected, found = (sum(lot[name] for lot in lots) for name in ("expected", "found"))
    missed, wrong = (sum(len(lot[name]) for lot in lots) for name in ("missed", "wrong"))
    safety = {
        "runs": len(answers.runs),
        "closed": len(closed),
        "confirmed_lots": len(confirmed),
        "expected": expected,
        "found": found,
        "missed": missed,
        "wrong": wrong,
        "recall": _ratio(found, expected) if lots else None,
        "precision": _ratio(found, found + wrong) if lots else None,
        "possible": {
            name: sum(lot["possible"][name] for lot in lots) for name in ("expected", "found", "marked")
        },
        "stage_seconds": _stages(closed),
        "run_seconds": _spread([run.seconds for run in closed]),
        "lots": lots,
    }
    return Verdict(safety, _detector(truth, answers), _failures(lots, truth))


def _judge_lot(lot: str, truth: Truth, answers: Answers) -> dict[str, Any]:
    """One confirmed lot, all its runs and sites united."""
    expected = truth.exposures.get(lot, {})
    corrected = truth.corrected.get(lot, {})
    named = answers.exposures.get(lot, {})
    taken_back = {
        member for member in named if member in corrected and named[member].disposition == CORRECTED
    }
    found = expected.keys() & named.keys()
    possible = truth.possible.get(lot, set()) & expected.keys()
    runs = [run for run in answers.runs if run.lot == lot]
    return {
        "lot": lot,
        "run": runs[-1].run if runs else None,
        "runs": [run.run for run in runs],
        "closed": sum(run.closed for run in runs),
        "expected": len(expected),
        "found": len(found),
        "missed": sorted(expected.keys() - named.keys()),
        "wrong": sorted(named.keys() - expected.keys() - taken_back),
        "patients": len({(member.site, member.pseudonym) for member in expected}),
        "sites": len({member.site for member in expected}),
        "possible": {
            "expected": len(possible),
            "found": len(possible & named.keys()),
            "marked": sum(named[member].possible for member in possible & named.keys()),
        },
        "came_back": {
            "expected": sum(bool(became) for became in expected.values()),
            "agreed": sum(bool(expected[one]) and expected[one] == named[one].disposition for one in found),
        },
        "corrected": {"expected": len(corrected), "listed": len(taken_back)},
    }


def _failures(lots: Sequence[Mapping[str, Any]], truth: Truth) -> list[str]:
    if not lots:
        return ["nothing was confirmed, so nothing was proved"]
    found: list[str] = []
    for lot in lots:
        if lot["lot"] not in truth.lots:
            found.append(f"{lot['lot']}: the truth does not know this lot; it is not of this world")
        if lot["missed"]:
            found.append(f"{lot['lot']}: {len(lot['missed'])} of {lot['expected']} exposures were missed")
        if lot["wrong"]:
            found.append(f"{lot['lot']}: {len(lot['wrong'])} exposures were named wrongly")
        if not lot["closed"]:
            found.append(f"{lot['lot']}: confirmed, and no run of the loop closed for it")
    return found


def _detector(truth: Truth, answers: Answers) -> dict[str, Any]:
    """Counts over the live runs that ended.

    A hit is an alarm, since the onset, on a tag of a faulty lot that shows its fault.
    """
    judged = truth.live & answers.completed
    faulty = {lot for lot in truth.planted if lot in judged}
    alarmed = {alarm.lot for alarm in answers.alarms}
    hits = [hit for lot in sorted(faulty) if (hit := _hit(lot, truth.planted[lot], answers.alarms))]
    found = {hit["lot"] for hit in hits}
    false_alarms = (alarmed & judged) - faulty
    confirmed = set(confirmed_lots(answers.alarms))
    sound = len(judged) - len(faulty)
    return {
        "runs_judged": len(judged),
        "faults": len(faulty),
        "hits": len(hits),
        "misses": len(faulty - found),
        "missed_lots": sorted(faulty - found),
        "delays": hits,
        "delay_samples": _spread([hit["samples"] for hit in hits]),
        "false_alarms": len(false_alarms),
        "false_alarm_rate": _ratio(len(false_alarms), sound) if sound else None,
        "alarmed_lots": sorted(false_alarms),
        "qa": {
            "faults_confirmed": len(faulty & confirmed),
            "false_alarms_confirmed": len(false_alarms & confirmed),
        },
    }


def _hit(lot: str, fault: Fault, alarms: Sequence[Alarm]) -> dict[str, Any] | None:
    """The first alarm that the fault can have caused, and how long after its onset it came."""
    due = [
        alarm
        for alarm in alarms
        if alarm.lot == lot and alarm.tag in fault.tags and alarm.detected >= fault.onset
    ]
    if not due:
        return None
    first = min(due, key=lambda alarm: alarm.detected)
    seconds = (first.detected - fault.onset).total_seconds()
    samples = round(seconds / fault.sample_seconds)
    return {"lot": lot, "kind": fault.kind, "tag": first.tag, "samples": samples, "seconds": seconds}


def _stages(closed: Sequence[RunSeen]) -> dict[str, dict[str, float]]:
    seconds: dict[str, list[float]] = {}
    for run in closed:
        for name, took in run.stages:
            seconds.setdefault(name, []).append(took)
    return {name: _spread(values) for name, values in seconds.items()}


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"p50": _quantile(values, 0.5), "p99": _quantile(values, 0.99)} if values else {}


def _quantile(values: Sequence[float], share: float) -> float:
    """Between the two nearest values, in proportion."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return round(ordered[low] + (ordered[high] - ordered[low]) * (place - low), 4)


def _ratio(part: int, whole: int) -> float:
    return round(part / whole, 6) if whole else 1.0
