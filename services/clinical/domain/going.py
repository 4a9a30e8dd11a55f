"""The runs that go on at this site: a change of a patient concerns them all."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Going:
    """One document for the site. Whoever begins or changes a run's patients writes it or the run's
    holding, so that a patient's record never passes a run unseen."""

    runs: tuple[str, ...] = ()


def begun(going: Going, run: str) -> Going:
    return replace(going, runs=tuple(sorted({*going.runs, run})))


def ended(going: Going, run: str) -> Going:
    return replace(going, runs=tuple(other for other in going.runs if other != run))
