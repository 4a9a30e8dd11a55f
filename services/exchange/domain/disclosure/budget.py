"""What an analyst may still ask of a dataset: queries, rounds and, with noise, epsilon."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from services.exchange.domain.disclosure.limits import Breach, Limits


@dataclass(frozen=True, slots=True)
class Spent:
    """What one analyst asked of one dataset: rounds by job, and the epsilon of each noised job."""

    rounds: Mapping[str, int] = field(default_factory=dict)
    epsilon: Mapping[str, float] = field(default_factory=dict)

    @property
    def queries(self) -> int:
        return len(self.rounds)

    @property
    def total_epsilon(self) -> float:
        """Sum over jobs: basic composition, never too small."""
        return sum(self.epsilon.values())


@dataclass(frozen=True, slots=True)
class Ledger:
    """By analyst and dataset."""

    spent: Mapping[tuple[str, str], Spent] = field(default_factory=dict)

    def of(self, analyst: str, dataset: str) -> Spent:
        return self.spent.get((analyst, dataset), Spent())


def check_query(ledger: Ledger, analyst: str, dataset: str, job: str, limits: Limits) -> list[Breach]:
    """Whether one job more is within the budget; a job that was counted is counted once."""
    spent = ledger.of(analyst, dataset)
    if job in spent.rounds or spent.queries < limits.queries:
        return []
    return [
        Breach(
            f"queries {limits.queries}",
            "QUERIES_SPENT",
            f"{analyst!r} has spent the {limits.queries} queries on {dataset!r}: its owner may grant more",
            "analyst",
        )
    ]


def check_round(
    ledger: Ledger, analyst: str, dataset: str, job: str, round_: int, limits: Limits
) -> list[Breach]:
    """Whether a job may go on to this round: many totals at nearby parameters tell more than one."""
    breaches = check_query(ledger, analyst, dataset, job, limits)
    if round_ > limits.rounds:
        breaches.append(
            Breach(
                f"rounds {limits.rounds}",
                "ROUNDS_SPENT",
                f"a job has {limits.rounds} rounds: this one does not converge, change the model",
                "round",
            )
        )
    return breaches


def check_epsilon(
    ledger: Ledger, analyst: str, dataset: str, job: str, epsilon: float, most: float
) -> list[Breach]:
    """Whether a noised job's epsilon is within what the dataset's owner grants the analyst."""
    spent = ledger.of(analyst, dataset)
    others = sum(value for name, value in spent.epsilon.items() if name != job)
    if others + epsilon <= most:
        return []
    return [
        Breach(
            f"epsilon {most:g}",
            "EPSILON_SPENT",
            f"{epsilon:.4g} more than the {others:.4g} spent exceeds epsilon {most:g}: add more noise",
            "epsilon",
        )
    ]


def spend(ledger: Ledger, analyst: str, dataset: str, job: str, round_: int, epsilon: float = 0.0) -> Ledger:
    """The ledger after a round; telling it again changes nothing."""
    spent = ledger.of(analyst, dataset)
    after = replace(spent, rounds={**spent.rounds, job: max(round_, spent.rounds.get(job, 0))})
    if epsilon:
        after = replace(after, epsilon={**spent.epsilon, job: max(epsilon, spent.epsilon.get(job, 0.0))})
    return Ledger({**ledger.spent, (analyst, dataset): after})
