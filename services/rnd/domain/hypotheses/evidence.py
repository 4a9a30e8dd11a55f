"""Pieces of evidence and their harmonic sum, as Open Targets scores associations.

Within a source the scores are sorted from the largest, score i is divided by i^2, and the sum is divided
by that of 1,000 ones (1.6439346); so (1, 0.9, 0.8) gives 0.799234. The same sum over source score times
weight of the source is the overall score. Per type of evidence the divisor has as many ones as the type
has sources, so that a type of one source is not punished for it. Of more than 1,000 pieces the 1,000
largest count.

What speaks against a candidate is summed in the same way and subtracted.

The score orders candidates. It is no probability and no measure of confidence.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from services.refusals import Malformed
from services.rnd.domain.errors import named, out_of_range
from services.rnd.domain.hypotheses.insight import Hypothesis, Insight, dated
from services.rnd.domain.hypotheses.verdict import judge

MOST = 1_000
#: What has to stand beside every score that a person sees.
CAUTION = "The score orders candidates by the evidence listed; it is not a measure of confidence."
#: The source of insights from clinical use.
CLINICAL_USE = "federated-study"


@dataclass(frozen=True)
class Piece:
    """One piece of evidence about a candidate. Raises Malformed.

    `score` from 0 to 1; `against` when it speaks against the candidate. `claim` is the hypothesis that it
    was given for, if any. `event` is the id of the event that told it, `at` when.
    """

    event: str
    candidate: str
    source: str
    score: float
    at: datetime
    against: bool = False
    claim: str = ""
    summary: str = ""

    def __post_init__(self) -> None:
        for name in ("event", "candidate", "source"):
            named(getattr(self, name), name)
        if not 0 <= self.score <= 1:
            raise out_of_range(f"the score of evidence is from 0 to 1, this is {self.score}", "score")
        dated(self.at, "at")


#: Which type of evidence a source belongs to; a type's divisor counts the sources listed here.
SOURCES: Mapping[str, str] = {
    "federated-study": "real_world",
    "safety-signal": "real_world",
    "trial-registry": "known_drug",
    "virtual-trial": "known_drug",
    "gwas": "genetic_association",
    "rare_variants": "genetic_association",
    "cancer_biomarkers": "somatic_mutation",
    "expression_atlas": "rna_expression",
    "reactome": "affected_pathway",
    "screening": "affected_pathway",
    "otar_projects": "affected_pathway",
    "europe_pmc": "literature",
    "impc": "animal_model",
}


@dataclass(frozen=True)
class Weights:
    """What is editable of the score. Raises Malformed.

    `source`: the weight of a source, from 0 to 1, 1 where none is named. `half_life`: after how long a
    piece of a source counts half; never where none is named. `kept`: the part that earlier evidence
    keeps once the claim that it was given for is contradicted in clinical use. `types`: the type of
    each source; a source that is not listed is a type of its own.
    """

    source: Mapping[str, float] = field(
        default_factory=lambda: {
            "europe_pmc": 0.2,
            "expression_atlas": 0.2,
            "impc": 0.2,
            "otar_projects": 0.5,
            "cancer_biomarkers": 0.5,
        }
    )
    half_life: Mapping[str, timedelta] = field(default_factory=dict)
    kept: float = 0.25
    types: Mapping[str, str] = field(default_factory=lambda: SOURCES)

    def __post_init__(self) -> None:
        for name, weight in self.source.items():
            if not 0 <= weight <= 1:
                raise out_of_range(f"the weight of {name} is from 0 to 1, this is {weight}", f"source.{name}")
        for name, half in self.half_life.items():
            if half <= timedelta():
                raise out_of_range(f"the half-life of {name} is above 0", f"half_life.{name}")
        if not 0 <= self.kept <= 1:
            raise out_of_range("the part that is kept is from 0 to 1", "kept")

    def of(self, source: str) -> float:
        return self.source.get(source, 1.0)

    def type_of(self, source: str) -> str:
        return self.types.get(source, source)

    def sources_of(self, kind: str) -> int:
        return sum(one == kind for one in self.types.values()) or 1

    def text(self) -> str:
        """The weights as a line for people."""
        named_ = ", ".join(f"{name} {weight:g}" for name, weight in sorted(self.source.items()))
        halves = ", ".join(f"{name} {half.days} d" for name, half in sorted(self.half_life.items()))
        return (
            f"weights: {named_ or 'none named'}, others 1; half-lives: {halves or 'none'}; "
            f"contradicted claims keep {self.kept:g}"
        )


def harmonic(scores: Iterable[float], ones: int = MOST) -> float:
    """The harmonic sum over that of so many ones; the order of the scores does not matter."""
    largest = sorted(scores, reverse=True)[:MOST]
    return math.fsum(score / place**2 for place, score in enumerate(largest, start=1)) / divisor(ones)


def divisor(ones: int) -> float:
    """The harmonic sum of so many ones."""
    if ones < 1:
        raise out_of_range("the divisor counts at least 1 one", "ones")
    return math.fsum(1 / place**2 for place in range(1, ones + 1))


@dataclass(frozen=True)
class Contribution:
    """What one piece adds to the score of its candidate (below 0: takes away); the contributions of all
    its pieces sum to the score. `counted` is the piece's score after age and contradiction."""

    piece: Piece
    counted: float
    amount: float
    note: str = ""


@dataclass(frozen=True)
class Scored:
    """The score of a candidate with what made it: by source (before weights), by type, by piece."""

    score: float
    sources: tuple[tuple[str, float], ...]
    types: tuple[tuple[str, float], ...]
    contributions: tuple[Contribution, ...]


def score(
    pieces: Iterable[Piece],
    weights: Weights,
    as_of: datetime,
    contradicted: Mapping[str, datetime] | None = None,
) -> Scored:
    """The score of one candidate's evidence as of a moment. `contradicted`: claims that clinical use
    contradicts, with the moment since when. A piece told twice counts once; the order does not matter."""
    dated(as_of, "as_of")
    valued = [
        _valued(piece, weights, as_of, contradicted or {}) for piece in _once(pieces) if piece.at <= as_of
    ]
    by_source: dict[str, list[Contribution]] = defaultdict(list)
    for one in valued:
        by_source[one.piece.source].append(one)
    # For and against are ranked apart, in each source and over the sources.
    shares = {source: _shares(ones) for source, ones in by_source.items()}
    own = {source: _sums(share) for source, share in shares.items()}
    factors = _factors(own, weights)
    contributions = [
        Contribution(one.piece, one.counted, amount * factors[source, one.piece.against], one.note)
        for source, share in shares.items()
        for one, amount in share
    ]
    contributions.sort(key=lambda one: (-abs(one.amount), one.piece.event))
    return Scored(
        score=math.fsum(one.amount for one in contributions),
        sources=tuple(sorted((source, pro - contra) for source, (pro, contra) in own.items())),
        types=_types(own, weights),
        contributions=tuple(contributions),
    )


def of_insights(hypothesis: Hypothesis, insights: Sequence[Insight], as_of: datetime) -> list[Piece]:
    """The insights about a hypothesis as evidence about its candidate.

    Each that counts is judged alone, by the rule of `verdict`: for, against, or, where it needs data,
    no evidence. Its score is 1 - p of that judgement. Raises Malformed.
    """
    together = judge(hypothesis, insights, as_of)
    counts = {one.event for one in together.counted if not one.reason}
    pieces = []
    for one in {one.event: one for one in insights}.values():
        alone = judge(hypothesis, [one], as_of) if one.event in counts else None
        if alone is None or alone.state == "needs data":
            continue
        pieces.append(
            Piece(
                event=one.event,
                candidate=hypothesis.candidate,
                source=CLINICAL_USE,
                score=alone.strength,
                at=one.at,
                against=alone.state == "contradicted",
                claim=hypothesis.hypothesis,
                summary=f"{one.question}: {one.scale} {one.effect:g} ({one.low:g} to {one.high:g}), "
                f"{one.n} patients, {one.sites} sites, {one.model}",
            )
        )
    return sorted(pieces, key=lambda piece: (piece.at, piece.event))


def _once(pieces: Iterable[Piece]) -> list[Piece]:
    """Each event once for its source. Raises Malformed where the same event says two different things."""
    found: dict[tuple[str, str], Piece] = {}
    for piece in pieces:
        before = found.setdefault((piece.event, piece.source), piece)
        if before != piece:
            said = f"event {piece.event} of {piece.source} tells two different pieces; give each its own id"
            raise Malformed("CONFLICT", said, "event")
    return list(found.values())


def _valued(
    piece: Piece, weights: Weights, as_of: datetime, contradicted: Mapping[str, datetime]
) -> Contribution:
    counted, notes = piece.score, []
    half = weights.half_life.get(piece.source)
    if half is not None:
        counted *= 0.5 ** ((as_of - piece.at) / half)
        notes.append(f"{(as_of - piece.at).days} days old")
    since = contradicted.get(piece.claim)
    if (
        since is not None
        and piece.at <= since <= as_of
        and piece.source != CLINICAL_USE
        and not piece.against
    ):
        counted *= weights.kept
        notes.append(f"claim contradicted since {since.date().isoformat()}")
    return Contribution(piece, counted, 0.0, "; ".join(notes))


def _shares(ones: Sequence[Contribution]) -> list[tuple[Contribution, float]]:
    """Each piece of one source with what it adds to the source's sum for or against."""
    whole, result = divisor(MOST), []
    for against in (False, True):
        side = sorted(
            (one for one in ones if one.piece.against is against),
            key=lambda one: (-one.counted, one.piece.at, one.piece.event),
        )
        for place, one in enumerate(side, start=1):
            result.append((one, one.counted / place**2 / whole if place <= MOST else 0.0))
    return result


def _sums(share: Sequence[tuple[Contribution, float]]) -> tuple[float, float]:
    pro = math.fsum(amount for one, amount in share if not one.piece.against)
    return pro, math.fsum(amount for one, amount in share if one.piece.against)


def _factors(own: Mapping[str, tuple[float, float]], weights: Weights) -> dict[tuple[str, bool], float]:
    """By what a source's sum for (False) or against (True) is multiplied in the overall score."""
    whole, factors = divisor(MOST), {}
    for against in (False, True):
        order = sorted(own, key=lambda source: (-weights.of(source) * own[source][against], source))
        for place, source in enumerate(order, start=1):
            size = weights.of(source) / place**2 / whole if place <= MOST else 0.0
            factors[source, against] = -size if against else size
    return factors


def _types(own: Mapping[str, tuple[float, float]], weights: Weights) -> tuple[tuple[str, float], ...]:
    grouped: dict[str, list[str]] = defaultdict(list)
    for source in own:
        grouped[weights.type_of(source)].append(source)
    found = []
    for kind, sources in sorted(grouped.items()):
        ones = max(weights.sources_of(kind), len(sources))
        pro, contra = (
            harmonic((weights.of(one) * own[one][side] for one in sources), ones) for side in (0, 1)
        )
        found.append((kind, pro - contra))
    return tuple(found)
