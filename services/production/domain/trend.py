"""Out of trend: a result within specification that lies far from the product's earlier ones.

The rule is Shewhart's (Economic Control of Quality of Manufactured Product,
1931): beyond three standard deviations of the mean of the earlier results,
both estimated from them. EU GMP chapter 6 (6.9) asks that results be kept so
that trends show, and that one out of trend be looked into. With eight earlier
results one good result in 40 is reviewed, with very many one in 370: the
estimates are uncertain while there are few.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace

from pharmaloop.production.v1 import events_pb2 as events
from services.sayings import saying

#: Fewer earlier results than these say nothing of a trend.
FEWEST = 8
SIGMAS = 3.0
#: So many results of a product's test are kept: the newest.
_KEPT = 500


@dataclass(frozen=True, order=True)
class Measured:
    """A result within specification; `at` is when it was tested (ISO, UTC)."""

    at: str
    result: str
    value: float
    lot: str


@dataclass(frozen=True)
class Trend:
    """A product's results of one test, in order of time, and their unit."""

    unit: str
    results: tuple[Measured, ...] = ()


def taken(held: Trend, result: Measured) -> Trend:
    """The trend with a result more; the same result counts once."""
    if any(known.result == result.result for known in held.results):
        return held
    return replace(held, results=tuple(sorted((*held.results, result))[-_KEPT:]))


def retest(held: Trend, lot: str, at: str) -> str:
    """The first of a lot's results that was tested after a moment; empty when there is none."""
    later = (known.result for known in held.results if known.lot == lot and known.at > at)
    return next(later, "")


def review(
    held: Trend, result: Measured, recorded: events.TestResultRecorded
) -> list[events.TrendReviewOpened]:
    """A review, if the result is out of the trend of those that were tested before it."""
    earlier = [known.value for known in held.results if known < result]
    if len(earlier) < FEWEST:
        return []
    mean, deviation = statistics.fmean(earlier), statistics.stdev(earlier)
    if abs(result.value - mean) <= SIGMAS * deviation:
        return []
    rule = (
        f"{recorded.test} of {result.value:g} {recorded.unit} lies more than {SIGMAS:g} standard "
        f"deviations of {deviation:.3g} from {mean:.4g}, the mean of {len(earlier)} earlier results"
    )
    return [
        events.TrendReviewOpened(
            lot=recorded.lot,
            result=result.result,
            test=recorded.test,
            rule=rule,
            mean=mean,
            deviation=deviation,
            earlier=len(earlier),
            rule_saying=saying(
                "RESULT_OUT_OF_TREND",
                test=recorded.test,
                unit=recorded.unit,
                value=result.value,
                sigmas=float(SIGMAS),
                deviation=float(f"{deviation:.3g}"),
                mean=mean,
                earlier=float(len(earlier)),
            ),
        )
    ]
