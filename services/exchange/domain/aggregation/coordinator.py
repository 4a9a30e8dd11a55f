"""The coordinator's side of a round: wait for every participant, then read the sum.

It holds masked vectors only. Until all participants have sent and opened, what
it holds is uniform noise, and it says so by giving no total.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from services.exchange.domain.aggregation import layout as fixed
from services.exchange.domain.aggregation import masks
from services.exchange.domain.aggregation.context import Context
from services.exchange.domain.aggregation.messages import (
    MaskedVector,
    Opening,
    SignedSet,
    check_statement,
    hashed,
)
from services.refusals import Refusal


class Receipt(Enum):
    """What became of a message. Only ACCEPTED changed anything."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    OTHER_ROUND = "other round"
    OTHER_ATTEMPT = "other attempt"


@dataclass(frozen=True, slots=True)
class Round:
    """One attempt: what was received of whom."""

    context: Context
    vectors: Mapping[str, MaskedVector] = field(default_factory=dict)
    openings: Mapping[str, Opening] = field(default_factory=dict)

    def missing_vectors(self) -> tuple[str, ...]:
        return tuple(site for site in self.context.participants if site not in self.vectors)

    def missing_openings(self) -> tuple[str, ...]:
        return tuple(site for site in self.context.participants if site not in self.openings)


def collect(round_: Round, vector: MaskedVector, identities: Mapping[str, bytes]) -> tuple[Round, Receipt]:
    """The round with a vector more.

    Idempotent by (job, round, attempt, site). A vector of another round or
    attempt is ignored, whenever it comes. Refused: a site that is not in the
    round, another context under the same numbers, a signature that does not
    hold, a wrong length, and a second vector that differs from the first.
    """
    context, site = round_.context, vector.site
    if (vector.job, vector.round) != (context.job, context.round):
        return round_, Receipt.OTHER_ROUND
    if vector.attempt != context.attempt:
        return round_, Receipt.OTHER_ATTEMPT
    if site not in context.participants:
        raise Refusal("NOT_A_PARTICIPANT", f"{site!r} is not in this attempt", "site")
    if site in round_.vectors:
        if round_.vectors[site].words == vector.words and vector.context == context.digest():
            return round_, Receipt.DUPLICATE
        raise Refusal("SECOND_VECTOR", f"{site!r} has sent another vector for this attempt", "words")
    if vector.context != context.digest():
        raise Refusal(
            "CONTEXT_DIFFERS", f"{site!r} masked for other participants, parameters or cohort", "context"
        )
    fixed.from_bytes(context.layout, vector.words)
    if hashed(vector.words) != vector.statement.vector:
        raise Refusal("NOT_SIGNED", f"{site!r} signed another vector than was received", "words")
    check_statement(vector.statement, vector.context, identities)
    return replace(round_, vectors={**round_.vectors, site: vector}), Receipt.ACCEPTED


def signed_set(round_: Round) -> SignedSet:
    """What every participant opens for; Refusal until all have sent."""
    missing = round_.missing_vectors()
    if missing:
        raise Refusal("VECTORS_MISSING", f"no vector yet of {', '.join(missing)}", "participants")
    statements = {site: vector.statement for site, vector in round_.vectors.items()}
    return SignedSet(context=round_.context, statements=statements)


def accept(round_: Round, opening: Opening) -> tuple[Round, Receipt]:
    """The round with an opening more; one of another context is ignored, a wrong seed refused."""
    if opening.context != round_.context.digest():
        return round_, Receipt.OTHER_ATTEMPT
    site = opening.site
    if site not in round_.vectors:
        raise Refusal("NOT_A_PARTICIPANT", f"{site!r} has sent no vector in this attempt", "site")
    if hashed(opening.seed) != round_.vectors[site].statement.seed:
        raise Refusal("WRONG_SEED", f"{site!r} opened another mask than it signed", "seed")
    if site in round_.openings:
        return round_, Receipt.DUPLICATE
    return replace(round_, openings={**round_.openings, site: opening}), Receipt.ACCEPTED


def total(round_: Round) -> dict[str, fixed.Floats]:
    """The sums over all participants by part of the layout; Refusal until all have sent and opened."""
    missing = round_.missing_vectors() or round_.missing_openings()
    if missing:
        raise Refusal("NOT_COMPLETE", f"the total waits for {', '.join(missing)}", "participants")
    layout = round_.context.layout
    words = fixed.from_bytes(layout, bytes(layout.nbytes))
    for site in round_.context.participants:
        words = fixed.add(words, fixed.from_bytes(layout, round_.vectors[site].words))
        words = fixed.subtract(words, masks.stream(round_.openings[site].seed, layout))
    layout.check_total(words, len(round_.context.participants))
    return layout.split(layout.decode(words))
