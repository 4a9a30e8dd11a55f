"""The state of a hypothesis, from all insights about it.

The rule, in this order:

1. An insight counts if it has the patients and sites that the hypothesis asks for, and no later one of its
   study replaces it. Those that do not count are listed with the reason.
2. Those that count are pooled on the line where no effect is 0, by inverse variance with the variance
   between studies of DerSimonian and Laird (Control Clin Trials 1986;7:177).
3. supported: the whole 95 % interval is on the expected side of no effect, and the estimate is at least
   the least effect. contradicted: the whole interval is short of the least effect (without one: on the
   other side of no effect). needs data: neither; then about how many patients would decide, if the
   estimate stays.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, TypeAlias

from services.refusals import Malformed
from services.rnd.domain.hypotheses.insight import Hypothesis, Insight, dated

State: TypeAlias = Literal["supported", "contradicted", "needs data"]
RULE = (
    "supported: the 95 % interval is wholly on the expected side and the estimate reaches the least effect; "
    "contradicted: the interval is wholly short of the least effect; needs data: neither"
)
_Z95 = 1.959963984540054


@dataclass(frozen=True)
class Counted:
    """An insight with its part in the pooled estimate (parts sum to 1), or why it has none: `reason` in
    words, `left_out` as a code with its values."""

    insight: str
    event: str
    at: datetime
    part: float
    reason: str = ""
    left_out: tuple[str, Mapping[str, str | float]] | None = None


@dataclass(frozen=True)
class Assessment:
    """The state and what it rests on.

    `estimate`, `low` and `high` are on the scale of the hypothesis; None while nothing counts.
    `strength` is 1 - p, of the two-sided test that the state rests on (0 while data are needed);
    `since`: when the insight was told that brought this state, None while nothing counts. `needed_n`:
    while data are needed, about how many patients in all would decide if the estimate stays.
    """

    hypothesis: str
    state: State
    reason: str
    estimate: float | None
    low: float | None
    high: float | None
    n: int
    strength: float
    since: datetime | None
    needed_n: int | None
    counted: tuple[Counted, ...]


def judge(hypothesis: Hypothesis, insights: Iterable[Insight], as_of: datetime) -> Assessment:
    """The state as of a moment; later insights are not seen. The order of insights does not matter.

    Raises Malformed for an insight about another hypothesis or on another scale.
    """
    dated(as_of, "as_of")
    known = sorted(
        {one.event: one for one in insights if one.at <= as_of}.values(),
        key=lambda one: (one.at, one.insight, one.event),
    )
    for one in known:
        if (one.hypothesis, one.scale) != (hypothesis.hypothesis, hypothesis.scale):
            said = f"insight {one.insight} is about {one.hypothesis}, as a {one.scale}; not what is judged"
            raise Malformed("MISMATCH", said, "insights")
    found = _judged(hypothesis, known)
    since = found.since
    # Back over the moments at which something was told, as long as the state was this one.
    for moment in sorted({one.at for one in known}, reverse=True):
        before = _judged(hypothesis, [one for one in known if one.at <= moment])
        if before.state != found.state:
            break
        since = before.since and moment
    return replace(found, since=since)


def _judged(hypothesis: Hypothesis, known: Sequence[Insight]) -> Assessment:
    """The state by these insights, in the order of time; `since` is the latest that counts."""
    latest = {one.study: one for one in known}
    left = {one.event: _left_out(hypothesis, one, latest) for one in known}
    used = [one for one in known if left[one.event] is None]
    parts = _parts(used)
    counted = tuple(
        Counted(
            one.insight,
            one.event,
            one.at,
            parts.get(one.event, 0.0),
            _in_words(*out) if (out := left[one.event]) else "",
            out,
        )
        for one in known
    )
    if not used:
        reason = "no insight counts yet" if known else "no insight yet"
        needed = hypothesis.least_n
        return Assessment(
            hypothesis.hypothesis, "needs data", reason, None, None, None, 0, 0.0, None, needed, counted
        )
    return _stated(hypothesis, used, parts, counted)


def _stated(
    hypothesis: Hypothesis, used: Sequence[Insight], parts: dict[str, float], counted: tuple[Counted, ...]
) -> Assessment:
    sign, least = hypothesis.sign, hypothesis.least
    towards = sign * math.fsum(parts[one.event] * one.estimate for one in used)
    error = _pooled_error(used)
    low, high = towards - _Z95 * error, towards + _Z95 * error
    n = sum(one.n for one in used)
    needed = None
    state: State
    if low > 0 and towards >= least:
        state, strength = "supported", _one_minus_p(towards / error)
        reason = f"the interval is wholly on the expected side ({hypothesis.expected} no effect)"
    elif high < least or (least == 0 and high <= 0):
        state, strength = "contradicted", _one_minus_p((least - towards) / error)
        reason = f"the interval is wholly short of {'no effect' if least == 0 else 'the least effect'}"
    else:
        state, strength = "needs data", 0.0
        reason = "the interval holds both an effect that matters and none"
        # From the estimate to what the interval must no longer hold: no effect, or the least effect.
        apart = towards if towards >= least else least - towards
        if apart > 0:
            needed = math.ceil(n * (_Z95 * error / apart) ** 2)
    ends = [_on_scale(hypothesis, sign * one) for one in (towards, low, high)]
    return Assessment(
        hypothesis=hypothesis.hypothesis,
        state=state,
        reason=reason,
        estimate=ends[0],
        low=min(ends[1:]),
        high=max(ends[1:]),
        n=n,
        strength=strength,
        since=max(one.at for one in used),
        needed_n=needed,
        counted=counted,
    )


def _left_out(
    hypothesis: Hypothesis, one: Insight, latest: dict[str, Insight]
) -> tuple[str, Mapping[str, str | float]] | None:
    """Why an insight does not count, as a code with its values; None when it does."""
    if latest[one.study] is not one:
        return "REPLACED", {"by": latest[one.study].insight}
    if one.n < hypothesis.least_n:
        return "PATIENTS", {"n": one.n, "least": hypothesis.least_n}
    if one.sites < hypothesis.least_sites:
        return "SITES", {"n": one.sites, "least": hypothesis.least_sites}
    return None


def _in_words(code: str, values: Mapping[str, str | float]) -> str:
    if code == "REPLACED":
        return f"replaced by {values['by']} of the same study"
    return f"{values['n']} {code.lower()}, fewer than {values['least']}"


def _weights(used: Sequence[Insight]) -> list[float]:
    """Inverse variances, with the variance between studies added."""
    fixed = [one.error**-2 for one in used]
    total = math.fsum(fixed)
    mean = math.fsum(w * one.estimate for w, one in zip(fixed, used, strict=True)) / total
    q = math.fsum(w * (one.estimate - mean) ** 2 for w, one in zip(fixed, used, strict=True))
    scale = total - math.fsum(w * w for w in fixed) / total
    between = max(0.0, (q - (len(used) - 1)) / scale) if scale > 0 else 0.0
    return [1 / (one.error**2 + between) for one in used]


def _parts(used: Sequence[Insight]) -> dict[str, float]:
    weights = _weights(used) if used else []
    total = math.fsum(weights)
    return {one.event: weight / total for one, weight in zip(used, weights, strict=True)}


def _pooled_error(used: Sequence[Insight]) -> float:
    return 1 / math.sqrt(math.fsum(_weights(used)))


def _one_minus_p(z: float) -> float:
    return math.erf(abs(z) / math.sqrt(2))


def _on_scale(hypothesis: Hypothesis, value: float) -> float:
    return math.exp(value) if hypothesis.scale == "ratio" else value
