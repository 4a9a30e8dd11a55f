"""Stored states of the exchange: datasets and studies (aggregates), their runs, rows for lists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from services.exchange.domain import datasets, evaluators, studies
from services.kit.store.kinds import Kind


@dataclass(frozen=True)
class StudyRun:
    """The run of the evidence loop that a study is in."""

    study: str
    run: str


@dataclass(frozen=True)
class Budget:
    """That a job was opened for an analyst: whoever opens another at the same moment conflicts with it."""

    jobs: int


@dataclass(frozen=True)
class Meters:
    """What is metered of an answered job when its valuation is there: ContributionMetered, as bytes."""

    meters: tuple[bytes, ...]


@dataclass(frozen=True)
class StudyRow:
    """A study as lists show it. `at` is when it was requested, platform time, ISO, UTC."""

    study: str
    at: str
    state: str
    sites: tuple[str, ...]
    approved: tuple[str, ...] = ()


DATASETS: Kind[datasets.Dataset] = Kind("dataset", datasets.Dataset, ("site",), evolve=datasets.evolve)
STUDIES: Kind[studies.Study] = Kind("study", studies.Study, ("actor", "state"), evolve=studies.evolve)
RUNS: Kind[StudyRun] = Kind("study_run", StudyRun)
BUDGETS: Kind[Budget] = Kind("budget", Budget)
METERS: Kind[Meters] = Kind("meters", Meters)
EVALUATORS: Kind[evaluators.Evaluator] = Kind("evaluator", evaluators.Evaluator)
#: An exchange has one evaluator.
EVALUATOR = "evaluator"
ROWS: Kind[StudyRow] = Kind("study_row", StudyRow, ("at", "state", "sites"))
KINDS: tuple[Kind[Any], ...] = (DATASETS, STUDIES, RUNS, BUDGETS, METERS, EVALUATORS, ROWS)
