"""What `verify` says of the transfer loop: every release ended as it had to, and the gap shrank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

#: Mean error of the live twin's biomass, as a share of the truth, that it is held to.
TWIN_ERROR = 0.05


@dataclass(frozen=True)
class FirstLot:
    """A lot as it truly was (hours and g/L of biomass), and what the live twin told of it while it ran."""

    lot: str
    hours: tuple[float, ...]
    biomass: tuple[float, ...]
    told: Mapping[float, float] = field(default_factory=dict)

    def truth(self, hour: float) -> float:
        """The biomass at the reading next to an hour."""
        near = min(range(len(self.hours)), key=lambda place: abs(self.hours[place] - hour))
        return self.biomass[near]


@dataclass(frozen=True)
class Planted:
    """What a world's scientists did: versions of a set to a plant, a release that the twin had to refuse by
    these rules, and drafts that research had to refuse."""

    set: str
    plant: str
    versions: int
    misfit_set: str
    misfit_plant: str
    misfit_rules: tuple[str, ...]
    mistakes: tuple[str, ...]
    first_lots: tuple[FirstLot, ...] = ()


@dataclass(frozen=True)
class Run:
    """A run of the loop as the platform shows it: `outcome` is empty while it goes on."""

    set: str
    version: int
    plant: str
    outcome: str
    stages: tuple[tuple[str, float], ...] = ()


@dataclass
class Seen:
    """What the platform says. `gaps`: attribute to (before, after calibration) of each outcome, the oldest
    first; `refused`: rules by set and plant; `drafted`: sets of which a version is on record; `twins`: the
    biomass (g/L) at the end of each first lot, as its live twin says."""

    runs: Sequence[Run] = ()
    refused: Mapping[tuple[str, str], frozenset[str]] = field(default_factory=dict)
    gaps: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)
    drafted: frozenset[str] = frozenset()
    twins: Mapping[str, float] = field(default_factory=dict)


def judge(planted: Planted, seen: Seen) -> tuple[dict[str, Any], list[str]]:
    """The document of the loop, and what fails."""
    closed = {run.version for run in _of(planted.set, planted.plant, seen) if run.outcome == "closed"}
    wanted = set(range(1, planted.versions + 1))
    failures = [
        f"version {version} of {planted.set} has no closed run at {planted.plant}"
        for version in sorted(wanted - closed)
    ]
    failures += _misfit(planted, seen)
    failures += [
        f"the draft {name} is on record, and had to be refused" for name in sorted(_drafted(planted, seen))
    ]
    shrank, shown = _gaps(seen)
    if planted.versions > 2 and not shrank:
        failures.append("the gap of no attribute shrank over the transfers")
    twin, wrong = _twin(planted, seen)
    failures += wrong
    document = {
        "versions": planted.versions,
        "closed": len(wanted & closed),
        "refused_by_twin": sorted(seen.refused.get((planted.misfit_set, planted.misfit_plant), ())),
        "drafts_refused": len(planted.mistakes) - len(_drafted(planted, seen)),
        "gaps": shown,
        "twin": twin,
        "stage_seconds": _stages([run for run in seen.runs if run.outcome == "closed"]),
    }
    return document, failures


def _of(set_: str, plant: str, seen: Seen) -> list[Run]:
    return [run for run in seen.runs if (run.set, run.plant) == (set_, plant)]


def _drafted(planted: Planted, seen: Seen) -> set[str]:
    return set(planted.mistakes) & seen.drafted


def _misfit(planted: Planted, seen: Seen) -> list[str]:
    runs = _of(planted.misfit_set, planted.misfit_plant, seen)
    if not any(run.outcome == "refused" for run in runs):
        return [f"the transfer of {planted.misfit_set} to {planted.misfit_plant} was not refused"]
    rules = seen.refused.get((planted.misfit_set, planted.misfit_plant), frozenset())
    return [
        f"the transfer of {planted.misfit_set} was refused, and not by {rule}"
        for rule in planted.misfit_rules
        if rule not in rules
    ]


def _gaps(seen: Seen) -> tuple[bool, list[dict[str, Any]]]:
    """Does some attribute's gap shrink: are the last two, as calibrated, smaller than the first was?"""
    shown, shrank = [], False
    for attribute, pairs in sorted(seen.gaps.items()):
        if len(pairs) < 3:
            continue
        first, last = abs(pairs[0][1]), fmean(abs(after) for _, after in pairs[-2:])
        shrank = shrank or last < first
        shown.append(
            {"attribute": attribute, "first": first, "last_two": last, "gaps": [after for _, after in pairs]}
        )
    return shrank, shown


def _twin(planted: Planted, seen: Seen) -> tuple[dict[str, Any], list[str]]:
    """How far the live twin's biomass was off: what it told of each lot while it ran, and what the platform
    says of its end now."""
    failures, lots, all_off = [], [], []
    for one in planted.first_lots:
        if one.lot not in seen.twins:
            failures.append(f"the platform has no twin of the lot {one.lot}")
            continue
        told = {**one.told, one.hours[-1]: seen.twins[one.lot]}
        off = [abs(value / one.truth(hour) - 1) for hour, value in sorted(told.items())]
        lots.append({"lot": one.lot, "looks": len(off), "mean_error": fmean(off), "last_error": off[-1]})
        all_off += off
    if planted.versions and not planted.first_lots:
        failures.append("no lot of a transfer was followed by a live twin")
    mean = fmean(all_off) if all_off else None
    if mean is not None and mean > TWIN_ERROR:
        failures.append(
            f"the live twin's biomass is off by {100 * mean:.1f} % in the mean, and {100 * TWIN_ERROR:.0f} % "
            "is what it is held to"
        )
    return {"mean_error": mean, "lots": lots}, failures


def _stages(runs: Sequence[Run]) -> dict[str, float]:
    """Mean seconds of each stage."""
    found: dict[str, list[float]] = {}
    for run in runs:
        for name, seconds in run.stages:
            found.setdefault(name, []).append(seconds)
    return {name: fmean(seconds) for name, seconds in found.items()}
