"""What `verify` says of the evidence loop: studies ended as they had to, and what was planted was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

_SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Planted:
    """A study that a world asked for: `outcome` is how its run must end ("closed", "refused", or empty where
    the request itself had to be refused), `sign` the direction of the planted effect."""

    study: str
    name: str
    outcome: str
    sign: int = 0


@dataclass(frozen=True)
class Seen:
    """A study as the platform shows it. `outcome` of its run, empty while it goes on or without one."""

    study: str
    outcome: str
    value: float | None = None
    lower: float | None = None
    upper: float | None = None
    p_value: float | None = None
    members: int = 0
    sites: int = 0
    flags: tuple[str, ...] = ()
    hypothesis: str = ""
    ranked: bool = False
    shares: tuple[float, ...] = ()
    stages: tuple[tuple[str, float], ...] = ()


def judge(planted: Sequence[Planted], seen: Mapping[str, Seen]) -> tuple[dict[str, Any], list[str]]:
    """The document of the loop, and what fails."""
    failures: list[str] = []
    for one in planted:
        failures += _judge(one, seen.get(one.study))
    answered = [found for found in seen.values() if found.outcome == "closed"]
    if answered and not any(found.ranked for found in answered):
        failures.append("no candidates were ranked after a finding")
    shown = [_shown(one, seen[one.study]) for one in planted if one.study in seen]
    asked = [one for one in planted if not one.outcome]
    stages = [seen[one.study].stages for one in planted if one.study in seen and one.outcome == "closed"]
    document = {
        "studies": shown,
        "requests_refused": sum(one.study not in seen for one in asked),
        "stage_seconds": _means(stages),
    }
    return document, failures


def _judge(one: Planted, found: Seen | None) -> list[str]:
    if not one.outcome:
        return [f"the study {one.name} is on record, and had to be refused"] if found else []
    if found is None:
        return [f"the study {one.name} is not on record"]
    if found.outcome != one.outcome:
        return [f"the run of the study {one.name} ended {found.outcome or 'not at all'}, not {one.outcome}"]
    if one.outcome != "closed":
        return []
    failures = []
    if found.value is None or found.p_value is None:
        failures.append(f"the study {one.name} gives no estimate with a p-value")
    elif found.p_value >= _SIGNIFICANT or found.value * one.sign <= 0:
        failures.append(
            f"the effect planted in {one.name} was not found: {found.value:.3f}, p {found.p_value:.2g}"
        )
    if not found.hypothesis:
        failures.append(f"no hypothesis rests on the finding of {one.name}")
    return failures


def _shown(one: Planted, found: Seen) -> dict[str, Any]:
    return {
        "name": one.name,
        "study": one.study,
        "outcome": found.outcome,
        "estimate": {"value": found.value, "lower": found.lower, "upper": found.upper, "p": found.p_value},
        "members": found.members,
        "sites": found.sites,
        "flags": list(found.flags),
        "hypothesis": found.hypothesis,
        "shares": list(found.shares),
    }


def _means(runs: Sequence[tuple[tuple[str, float], ...]]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for stages in runs:
        for name, seconds in stages:
            found.setdefault(name, []).append(seconds)
    return {name: fmean(seconds) for name, seconds in found.items()}
