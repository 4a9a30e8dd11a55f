"""docs/detection.md and its picture, from the numbers of one run of the benchmark and from nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from services.production.domain.golden import interval
from services.world.plant import DRIFT_SAMPLES
from tests.bench.detection.trials import ONSETS, Outcome, Setting
from tests.bench.framework.curves import chart, table
from tests.bench.framework.rows import ROOT

PAGE, PICTURE = ROOT / "docs" / "detection.md", ROOT / "docs" / "detection.svg"


@dataclass(frozen=True)
class Price:
    """A setting, and how many of the runs with nothing planted alarm."""

    setting: Setting
    alarmed: int
    runs: int

    @property
    def rate(self) -> float:
        return self.alarmed / self.runs

    def text(self) -> str:
        low, high = interval(self.alarmed, self.runs)
        return f"{self.alarmed} of {self.runs} ({self.rate:.1%}; {low:.1%} to {high:.1%})"


@dataclass(frozen=True)
class Found:
    """What became of one kind of trials with one setting."""

    price: Price
    outcome: Outcome


@dataclass(frozen=True)
class Report:
    """Everything that the page says. `steps`: of 5 published spreads, by setting; `sigmas`: steps of 5 in
    each measure, with its size in published spreads; `drifts`: by size in published spreads, by limit."""

    measured: str
    steps: Sequence[Found]
    cheapest: Found
    remarks: str
    sigmas: Sequence[tuple[str, float, Found]]
    drifts: Sequence[tuple[float, Sequence[Found]]]


def write(report: Report) -> None:
    PAGE.write_text(page(report))
    PICTURE.write_text(picture(report))


def page(report: Report) -> str:
    parts = [
        _HEAD.format(measured=report.measured, onsets=", ".join(f"{100 * share:.0f}" for share in ONSETS)),
        "## Steps of 5 published spreads\n",
        table(_STEP_HEAD, map(_step, report.steps)),
        f"The cheapest in alarms that finds 99.9 % within 2: **{report.cheapest.price.setting.name}**.",
        f"{report.remarks}\n",
        _SIGMAS,
        table(_SIGMA_HEAD, (_sigma(*line) for line in report.sigmas)),
        _DRIFTS.format(samples=DRIFT_SAMPLES),
        table(("limit", "alarms", *(f"{size:g} spreads" for size, _ in report.drifts)), _drifts(report)),
    ]
    return "\n".join(parts)


_HEAD = """# How soon a fault is found, and at what price

Written by `make bench T=tests/bench/bench_detection.py`, with the picture; do not edit. {measured}.

Each of the 71 real dryer runs is judged by a model that it had no part in. *Alarms*: the runs in which any
tag alarms though nothing was planted, with the exact 95 % interval. A *trial* is one tag of one run with a
fault from {onsets} per cent of the run on, of either sign; one whose tag had alarmed before is left out.
Samples come every minute, and the first faulty one is number 1. A *spread* is what good runs stay within
threefold ([ADR 6](adr/0006-spreads-are-what-good-runs-stay-within.md)).
"""
_SIGMAS = """## Steps of 5 standard deviations

A spread is no standard deviation: the residuals of a process have heavy tails, and its runs differ. So the
same steps, measured in standard deviations of the shift residuals, are much smaller. *By median* is 1.4826
times the median of the absolute residuals, by tag and phase, as the control charts have it; *plain* is the
standard deviation of unseen runs, by tag and phase. A chart whose limits are standard deviations finds such
steps, and alarms in every good run.
"""
_DRIFTS = """## Slow drifts

A drift grows evenly over {samples} samples to its size, in published spreads, and stays. Each cell says
within how many samples of its beginning half of the drifts are found, and nine in ten, and how many were
missed. A point of a line in the picture is a limit of every tag.

![Delay of slow drifts against false alarms](detection.svg)
"""
_STEP_HEAD = ("judged with", "alarms", "trials", "found within 2", "within 3", "left out")
_SIGMA_HEAD = (
    "5 standard deviations",
    "in published spreads, at the median",
    "judged with",
    "alarms",
    "trials",
    "found within 2",
    "within 3",
    "ever",
    "left out",
)


def _step(found: Found) -> tuple[str, ...]:
    result = found.outcome
    soon = [f"{result.within(samples):.2%}" for samples in (2, 3)]
    return found.price.setting.name, found.price.text(), f"{len(result.all):,}", *soon, f"{result.left:,}"


def _sigma(name: str, size: float, found: Found) -> tuple[str, ...]:
    setting, alarms, trials, two, three, left = _step(found)
    ever = f"{np.isfinite(found.outcome.all).mean():.2%}"
    return name, f"{size:.2f}", setting, alarms, trials, two, three, ever, left


def _drifts(report: Report) -> Iterator[tuple[str, ...]]:
    """A line for each limit, from the widest on."""
    for place, one in enumerate(report.drifts[0][1]):
        cells = (_delays(found[place].outcome) for _, found in report.drifts)
        yield one.price.setting.name, one.price.text(), *cells


def _delays(result: Outcome) -> str:
    late = (delay_of(result, share) for share in (0.5, 0.9))
    said = ", ".join(f"{delay:.0f}" if math.isfinite(delay) else "never" for delay in late)
    missed = int(np.isinf(result.all).sum())
    return f"{said} ({missed} missed)" if missed else said


def delay_of(result: Outcome, share: float) -> float:
    """The delay that this share of trials does not exceed, missed ones among them as infinite."""
    return float(np.quantile(result.all, share, method="inverted_cdf"))


def picture(report: Report) -> str:
    lines = {
        f"{size:g} spreads": [(100 * one.price.rate, delay_of(one.outcome, 0.5)) for one in found]
        for size, found in report.drifts
    }
    title = f"Drifts over {DRIFT_SAMPLES} samples: half of them are found within"
    return chart(title, "runs that alarm with nothing planted, %", "samples since the drift began", lines)
