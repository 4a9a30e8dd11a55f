"""What an analyst may still ask of a dataset: queries, rounds and, with noise, epsilon.

A query is a job in which sums were opened. The exchange folds what was spent
from its studies, a site from the cohorts that it opened masks over, each for
itself: neither has to believe the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from services.exchange.domain.disclosure.limits import Breach

#: What an owner grants one analyst where nothing is said.
USUAL_ROUNDS, USUAL_EPSILON = 6_000, 5.0
#: A job holds rounds by so many at once: a site does not have to store each one before it is opened.
ROUNDS_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Grant:
    """What the owner of a dataset grants one analyst, over all jobs."""

    queries: int
    rounds: int = USUAL_ROUNDS
    epsilon: float = USUAL_EPSILON


@dataclass(frozen=True, slots=True)
class Query:
    """What one job takes of it: the rounds it opened or holds, and its epsilon (0 without noise)."""

    rounds: int
    epsilon: float = 0.0


@dataclass(frozen=True, slots=True)
class Spent:
    """What one analyst has asked of one dataset. Epsilons are added: basic composition, never too small."""

    queries: int = 0
    rounds: int = 0
    epsilon: float = 0.0


def spent(queries: Iterable[Query]) -> Spent:
    """The sum of the analyst's jobs."""
    found = list(queries)
    return Spent(len(found), sum(one.rounds for one in found), sum(one.epsilon for one in found))


def left(grant: Grant, used: Spent) -> Spent:
    """What may still be asked; never below 0."""
    return Spent(
        max(0, grant.queries - used.queries),
        max(0, grant.rounds - used.rounds),
        max(0.0, grant.epsilon - used.epsilon),
    )


def check_query(grant: Grant, used: Spent, dataset: str, epsilon: float) -> list[Breach]:
    """Whether one job more is within the grant; `epsilon` is what it asks for, 0 without noise."""
    breaches = []
    if used.queries >= grant.queries:
        breaches.append(
            Breach(
                f"queries {grant.queries}",
                "QUERIES_SPENT",
                f"the {grant.queries} queries of one analyst on {dataset} are spent: "
                "its owner may grant more",
                "datasets",
            )
        )
    breaches += check_round(grant, used, dataset)
    # A hair of room: what is granted in tenths and spent in tenths is spent exactly.
    if epsilon and used.epsilon + epsilon > grant.epsilon * (1 + 1e-9):
        breaches.append(
            Breach(
                f"epsilon {grant.epsilon:g}",
                "EPSILON_SPENT",
                f"epsilon {epsilon:.4g} beside the {used.epsilon:.4g} spent on {dataset} is more than the "
                f"{grant.epsilon:g} of one analyst: ask for a smaller one, or its owner for more",
                "epsilon",
            )
        )
    return breaches


def check_round(grant: Grant, used: Spent, dataset: str) -> list[Breach]:
    """Whether one round more is within the grant: many totals at nearby parameters tell more than one."""
    if used.rounds < grant.rounds:
        return []
    return [
        Breach(
            f"rounds {grant.rounds}",
            "ROUNDS_SPENT",
            f"the {grant.rounds} rounds of one analyst on {dataset} are spent: its owner may grant more",
            "datasets",
        )
    ]


def held(grant: Grant, others: Spent, round_: int) -> int:
    """The rounds that a job holds which goes on to `round_`, a multiple of `ROUNDS_AT_ONCE` or all there are.

    `others` is what the analyst's other jobs took; `check_round` has passed with this job's rounds so far.
    """
    wanted = -(-round_ // ROUNDS_AT_ONCE) * ROUNDS_AT_ONCE
    return min(wanted, grant.rounds - others.rounds)
