"""Compare what the platform answered with what the world planted. Pure.

The loop is judged per confirmed lot, over all its runs together: every
dispense of the truth must be among the exposures, and nothing else. The
detector is measured beside it and never decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Member(NamedTuple):
    """One dispense of one patient."""

    site: str
    pseudonym: str
    dispense: str


@dataclass(frozen=True)
class Alarm:
    """A deviation as the platform lists it."""

    lot: str
    tag: str
    state: str


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
    exposures: Mapping[str, Set[Member]]
    completed: Set[str]


@dataclass(frozen=True)
class Truth:
    """What was planted."""

    exposures: Mapping[str, Set[Member]]
    planted: Mapping[str, str]
    live: Set[str]

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Truth:
        return cls(
            exposures={lot: {Member(*row) for row in rows} for lot, rows in raw["exposures"].items()},
            planted={fault["lot"]: fault["tag"] for fault in raw["planted"]},
            live=set(raw["live"]),
        )


@dataclass
class Verdict:
    """The document that is printed, and why the check fails."""

    safety: dict[str, Any]
    detector: dict[str, Any]
    failures: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.failures

    def document(self) -> dict[str, Any]:
        return {"ok": self.ok, "failures": self.failures, "safety": self.safety, "detector": self.detector}


def judge(truth: Truth, answers: Answers) -> Verdict:
    """The verdict on a world."""
    confirmed = sorted({alarm.lot for alarm in answers.alarms if alarm.state == "confirmed"})
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
        "stage_seconds": _stages(closed),
        "run_seconds": _spread([run.seconds for run in closed]),
        "lots": lots,
    }
    return Verdict(safety, _detector(truth, answers), _failures(lots, truth))


def _judge_lot(lot: str, truth: Truth, answers: Answers) -> dict[str, Any]:
    """One confirmed lot, all its runs united."""
    expected = truth.exposures.get(lot, set())
    named = answers.exposures.get(lot, set())
    runs = [run for run in answers.runs if run.lot == lot]
    return {
        "lot": lot,
        "run": runs[-1].run if runs else None,
        "runs": [run.run for run in runs],
        "closed": sum(run.closed for run in runs),
        "expected": len(expected),
        "found": len(expected & named),
        "missed": sorted(expected - named),
        "wrong": sorted(named - expected),
        "patients": len({(member.site, member.pseudonym) for member in expected}),
    }


def _failures(lots: Sequence[Mapping[str, Any]], truth: Truth) -> list[str]:
    if not lots:
        return ["nothing was confirmed, so nothing was proved"]
    found: list[str] = []
    for lot in lots:
        if lot["lot"] not in truth.exposures:
            found.append(f"{lot['lot']}: the truth does not know this lot; it is not of this world")
        if lot["missed"]:
            found.append(f"{lot['lot']}: {len(lot['missed'])} of {lot['expected']} exposures were missed")
        if lot["wrong"]:
            found.append(f"{lot['lot']}: {len(lot['wrong'])} exposures were named wrongly")
        if not lot["closed"]:
            found.append(f"{lot['lot']}: confirmed, and no run of the loop closed for it")
    return found


def _detector(truth: Truth, answers: Answers) -> dict[str, Any]:
    """Counts over the live runs that ended. A hit is an alarm on the planted tag of a faulty lot."""
    judged = truth.live & answers.completed
    faulty = {lot for lot in truth.planted if lot in judged}
    alarmed = {alarm.lot for alarm in answers.alarms}
    hits = {alarm.lot for alarm in answers.alarms if truth.planted.get(alarm.lot) == alarm.tag} & faulty
    false_alarms = (alarmed & judged) - faulty
    confirmed = {alarm.lot for alarm in answers.alarms if alarm.state == "confirmed"}
    sound = len(judged) - len(faulty)
    return {
        "runs_judged": len(judged),
        "faults": len(faulty),
        "hits": len(hits),
        "misses": len(faulty - hits),
        "missed_lots": sorted(faulty - hits),
        "false_alarms": len(false_alarms),
        "false_alarm_rate": _ratio(len(false_alarms), sound) if sound else None,
        "alarmed_lots": sorted(false_alarms),
        "qa": {
            "faults_confirmed": len(faulty & confirmed),
            "false_alarms_confirmed": len(false_alarms & confirmed),
        },
    }


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
