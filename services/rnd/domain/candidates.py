"""Candidates of an indication, ranked by what is known of them: each rank with what it rests on, dated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from google.protobuf.message import Message

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.rnd.v1 import events_pb2 as events
from services.rnd.domain.catalogue import Product
from services.rnd.domain.findings import Judged
from services.rnd.domain.hypotheses.evidence import CAUTION, Contribution, Piece, Weights
from services.rnd.domain.hypotheses.ranking import Candidate, Ranked, rank
from services.sayings import saying

#: The weights in force.
WEIGHTS = Weights()
_TRIAL = "virtual-trial"
#: What stands for a target that is not known.
_NO_TARGET = "unknown"


@dataclass(frozen=True)
class TrialEvidence:
    """A virtual trial as evidence for a molecule: its event's id, moment (ISO, UTC), how it did, and
    the hash of its design (hex; empty for one of before it was kept)."""

    molecule: str
    trial: str
    event: str
    at: str
    score: float
    go: bool
    design: str = ""


@dataclass(frozen=True)
class Ranking:
    """The ranking of an indication; `ranked` keeps its latest event."""

    indication: str
    ranked: bytes

    def message(self) -> events.CandidatesRanked:
        return events.CandidatesRanked.FromString(self.ranked)


@dataclass(frozen=True)
class RankingRow:
    """A ranking and when it was made."""

    indication: str
    at: str
    ranked: bytes


def of_trial(completed: events.TrialCompleted, event: str, at: str) -> TrialEvidence:
    """A trial that says go speaks for its molecule by its probability of success, another against by what
    is left of it."""
    go, probability = completed.verdict == events.TRIAL_VERDICT_GO, completed.probability_of_success
    score = probability if go else 1.0 - probability
    design = completed.design_hash.hex()
    return TrialEvidence(completed.molecule, completed.trial, event, at, score, go, design)


def decide_rank(
    indication: str,
    products: Iterable[Product],
    trials: Iterable[TrialEvidence],
    beliefs: Mapping[str, Judged],
    now: datetime,
    *,
    hypothesis: str = "",
    insight: str = "",
) -> list[events.CandidatesRanked]:
    """The molecules of an indication's products in the order of their evidence; nothing where none is known.

    `beliefs` by id are those about these products. `hypothesis` and `insight` are what moved them.
    """
    candidates = _candidates(indication, products)
    if not candidates:
        return []
    known = {one.candidate for one in candidates}
    about = [one for one in beliefs.values() if one.hypothesis.candidate in known]
    pieces = [_piece(one) for one in _latest(trials)]
    insights = [insight for one in about for insight in one.insights]
    moments = [piece.at for piece in pieces] + [one.at for one in insights]
    ranking = rank(
        candidates,
        pieces,
        WEIGHTS,
        max([now, *moments]),
        hypotheses=[one.hypothesis for one in about],
        insights=insights,
    )
    told = [_told(row) for row in ranking.rows]
    return [
        events.CandidatesRanked(
            indication=indication, candidates=told, hypothesis=hypothesis, insight=insight
        )
    ]


def _candidates(indication: str, products: Iterable[Product]) -> list[Candidate]:
    """Each molecule once, whatever number of products carries it."""
    targets = {one.molecule: one.target for one in products if one.molecule}
    return [
        Candidate(molecule, molecule, target or _NO_TARGET, indication)
        for molecule, target in sorted(targets.items())
    ]


def _latest(trials: Iterable[TrialEvidence]) -> list[TrialEvidence]:
    """Of a molecule's trials of one design the latest: the same simulation with another seed, or asked in
    other words, is no new evidence."""
    found: dict[tuple[str, str], TrialEvidence] = {}
    for one in sorted(trials, key=lambda one: (one.at, one.event)):
        found[one.molecule, one.design or one.trial] = one
    return list(found.values())


def _piece(one: TrialEvidence) -> Piece:
    at = datetime.fromisoformat(one.at)
    return Piece(one.event, one.molecule, _TRIAL, one.score, at, not one.go, summary=f"trial {one.trial}")


def _told(row: Ranked) -> events.Candidate:
    evidence = [_evidence(one) for one in row.scored.contributions]
    molecule = row.candidate.molecule
    return events.Candidate(molecule=molecule, rank=row.rank, score=row.score, evidence=evidence)


def _evidence(one: Contribution) -> events.CandidateEvidence:
    piece = one.piece
    return events.CandidateEvidence(
        source=piece.source,
        event=piece.event,
        score=one.counted,
        weight=WEIGHTS.of(piece.source),
        adds=one.amount,
        at=piece.at.isoformat(),
    )


def evolve(held: Ranking | None, event: Message) -> Ranking:
    assert isinstance(event, events.CandidatesRanked)
    return Ranking(event.indication, event.SerializeToString(deterministic=True))


def row(event: events.CandidatesRanked, at: str) -> RankingRow:
    return RankingRow(event.indication, at, event.SerializeToString(deterministic=True))


def explained() -> tuple[str, str]:
    """What a reader needs beside the scores: the weights, and what the scores are not."""
    return WEIGHTS.text(), CAUTION


def caution_sayings() -> list[common.Saying]:
    return [saying("SCORES_ORDER")]


def weights_sayings() -> list[common.Saying]:
    """The weights in parts: each source with its own, its half-life in days where it has one."""
    parts = [saying("WEIGHT", source=name, weight=weight) for name, weight in sorted(WEIGHTS.source.items())]
    halves = [
        saying("HALF_LIFE", source=name, days=half.days) for name, half in sorted(WEIGHTS.half_life.items())
    ]
    return [*parts, saying("WEIGHT_OF_OTHERS"), *halves, saying("KEPT_OF_CONTRADICTED", kept=WEIGHTS.kept)]
