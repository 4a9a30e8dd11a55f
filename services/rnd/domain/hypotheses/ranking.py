"""Candidates in the order of their evidence, and what moved them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from services.refusals import Malformed
from services.rnd.domain.errors import named
from services.rnd.domain.hypotheses import evidence
from services.rnd.domain.hypotheses.evidence import Contribution, Piece, Scored, Weights
from services.rnd.domain.hypotheses.insight import Hypothesis, Insight
from services.rnd.domain.hypotheses.verdict import Assessment, judge


@dataclass(frozen=True)
class Candidate:
    """A molecule for a target in an indication. Raises Malformed."""

    candidate: str
    molecule: str
    target: str
    indication: str

    def __post_init__(self) -> None:
        for name in ("candidate", "molecule", "target", "indication"):
            named(getattr(self, name), name)


@dataclass(frozen=True)
class Ranked:
    """A candidate with its rank (from 1; equal scores share one) and what made its score."""

    rank: int
    candidate: Candidate
    scored: Scored

    @property
    def score(self) -> float:
        return self.scored.score

    def explained(self) -> tuple[str, ...]:
        """One line for each piece, the largest first."""
        return tuple(_line(one) for one in self.scored.contributions)


@dataclass(frozen=True)
class Ranking:
    """Candidates in order, as of a moment, with the weights used and the caution that belongs beside it."""

    as_of: datetime
    weights: str
    rows: tuple[Ranked, ...]
    assessments: tuple[Assessment, ...] = ()
    caution: str = evidence.CAUTION


def rank(
    candidates: Sequence[Candidate],
    pieces: Iterable[Piece],
    weights: Weights,
    as_of: datetime,
    *,
    hypotheses: Sequence[Hypothesis] = (),
    insights: Iterable[Insight] = (),
) -> Ranking:
    """All candidates, those without evidence last with 0. Neither order of input matters.

    Hypotheses are judged by their insights, which become pieces themselves; other pieces for a claim
    that is contradicted keep only a part. Pieces of candidates that are not listed are left aside.
    Raises Malformed for a candidate listed twice and for an insight about no hypothesis listed.
    """
    names = [one.candidate for one in candidates]
    if len(set(names)) != len(names):
        raise Malformed("DUPLICATE", "every candidate is listed once", "candidates")
    told = _by_hypothesis(hypotheses, insights)
    assessments = tuple(judge(one, told[one.hypothesis], as_of) for one in hypotheses)
    contradicted = {
        one.hypothesis: one.since for one in assessments if one.state == "contradicted" and one.since
    }
    held: dict[str, list[Piece]] = defaultdict(list)
    for piece in pieces:
        held[piece.candidate].append(piece)
    for hypothesis in hypotheses:
        held[hypothesis.candidate] += evidence.of_insights(hypothesis, told[hypothesis.hypothesis], as_of)
    scored = [(one, evidence.score(held[one.candidate], weights, as_of, contradicted)) for one in candidates]
    scored.sort(key=lambda pair: (-pair[1].score, pair[0].candidate))
    rows: list[Ranked] = []
    for place, (candidate, its) in enumerate(scored, start=1):
        shared = rows and rows[-1].score == its.score
        rows.append(Ranked(rows[-1].rank if shared else place, candidate, its))
    return Ranking(as_of, weights.text(), tuple(rows), assessments)


@dataclass(frozen=True)
class Change:
    """A candidate whose rank or score is not what it was. `was` is None for a new candidate. `because`:
    the pieces whose contribution changed, the largest change first, with the change."""

    candidate: str
    was: int | None
    rank: int
    score_was: float
    score: float
    because: tuple[tuple[str, float], ...]


def changes(before: Ranking, after: Ranking) -> tuple[Change, ...]:
    """What moved between two rankings, in the order of the later one."""
    old = {one.candidate.candidate: one for one in before.rows}
    found = []
    for row in after.rows:
        past = old.get(row.candidate.candidate)
        if past is not None and (past.rank, past.score) == (row.rank, row.score):
            continue
        was, now = _amounts(past), _amounts(row)
        moved = {event: now.get(event, 0.0) - was.get(event, 0.0) for event in {*was, *now}}
        because = sorted(
            ((event, amount) for event, amount in moved.items() if amount),
            key=lambda pair: (-abs(pair[1]), pair[0]),
        )
        found.append(
            Change(
                candidate=row.candidate.candidate,
                was=past.rank if past else None,
                rank=row.rank,
                score_was=past.score if past else 0.0,
                score=row.score,
                because=tuple(because),
            )
        )
    return tuple(found)


def _by_hypothesis(
    hypotheses: Sequence[Hypothesis], insights: Iterable[Insight]
) -> Mapping[str, list[Insight]]:
    told: dict[str, list[Insight]] = {one.hypothesis: [] for one in hypotheses}
    if len(told) != len(hypotheses):
        raise Malformed("DUPLICATE", "every hypothesis is listed once", "hypotheses")
    for insight in insights:
        if insight.hypothesis not in told:
            said = f"insight {insight.insight} is about {insight.hypothesis}, which is not registered"
            raise Malformed("UNKNOWN", f"{said}; register the hypothesis first", "insights")
        told[insight.hypothesis].append(insight)
    return told


def _amounts(row: Ranked | None) -> dict[str, float]:
    amounts: dict[str, float] = defaultdict(float)
    for one in row.scored.contributions if row else ():
        amounts[one.piece.event] += one.amount
    return amounts


def _line(one: Contribution) -> str:
    piece = one.piece
    side = "against" if piece.against else "for"
    said = f"{one.amount:+.4f} {side}: {piece.source}, {piece.at.date().isoformat()}, score {piece.score:.3g}"
    parts = [said, *(note for note in (one.note, piece.summary) if note), f"event {piece.event}"]
    return "; ".join(parts)
