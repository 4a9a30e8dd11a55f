"""Virtual trials as research keeps them: what was asked, run, judged; the same question is one trial."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from google.protobuf.message import Message

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.rnd.v1 import events_pb2 as events
from services.refusals import Absent, Malformed, Refusal
from services.rnd.domain.errors import named
from services.rnd.domain.trial import record, sequential, virtual
from services.rnd.domain.trial.dosing import FixedDose, GuidedDose, LotPotency, Supply
from services.rnd.domain.trial.virtual import Assessment, Rule, TrialDesign
from services.sayings import saying

#: The twin and its version.
MODEL = "warfarin-xia-2024/1"
#: One beside another, a trial of this size takes some seconds.
MOST_PATIENTS = 1_000_000
_SAFE_INTEGER = 2**53 - 1


@dataclass(frozen=True)
class Trial:
    """A trial that was run; `completed` keeps its event as it was."""

    trial: str
    product: str
    go: bool
    completed: bytes

    def message(self) -> events.TrialCompleted:
        return events.TrialCompleted.FromString(self.completed)


@dataclass(frozen=True)
class TrialRow:
    """A trial as people page through them; `at` is platform time, ISO, UTC."""

    trial: str
    product: str
    at: str
    completed: bytes


@dataclass(frozen=True)
class Question:
    """What is asked: about which product, for what use, by which design, judged by which rule."""

    product: str
    context_of_use: str
    design: TrialDesign
    rule: Rule
    replicates: int
    supply: Supply
    seed: int

    @property
    def trial(self) -> str:
        """Id: of what was asked and of the model, whatever came out."""
        return record.content_hash({"model": MODEL, "asked": self})

    def canonical_design(self) -> str:
        """What a repetition needs besides the seed, as canonical JSON."""
        told = {
            "design": self.design,
            "rule": self.rule,
            "replicates": self.replicates,
            "supply": self.supply,
        }
        return record.canonical(record.plain(told, "design"))


def question(
    product: str,
    context_of_use: str,
    seed: int,
    *,
    control_dose: float,
    target: float,
    per_arm: int,
    days: int,
    visits: tuple[int, ...],
    looks: int,
    alpha: float,
    replicates: int,
    least_probability: float,
    least_difference: float | None,
    lots: tuple[tuple[str, float, float], ...],
) -> Question:
    """A question; 0 (and an empty or missing value) is the usual one. Raises Malformed.

    `lots` are (lot, measured potency as a part of the label, its part of the packs).
    """
    named(product, "product")
    named(context_of_use, "context_of_use")
    if not 0 <= seed <= _SAFE_INTEGER:
        raise Malformed("OUT_OF_RANGE", "a seed is a whole number from 0 to 2^53 - 1", "seed")
    usual = TrialDesign()
    per_arm, replicates = per_arm or usual.per_arm, replicates or 500
    if not 0 < 2 * per_arm * replicates <= MOST_PATIENTS:
        said = f"a trial has at least 1 and at most {MOST_PATIENTS:,} virtual patients over all its runs"
        raise Malformed("OUT_OF_RANGE", f"{said}; ask for fewer", "replicates")
    design = TrialDesign(
        control=FixedDose(control_dose or 3.0),
        test=GuidedDose(target or 2.5),
        per_arm=per_arm,
        days=days or usual.days,
        visits=visits or usual.visits,
        looks=sequential.equal_steps("obrien_fleming", looks or 1, alpha=alpha or 0.025, sides=1),
    )
    rule = Rule(least_probability or 0.8, 5.0 if least_difference is None else least_difference)
    supply = Supply(tuple(LotPotency(lot, potency, share or 1.0) for lot, potency, share in lots))
    return Question(product, context_of_use, design, rule, replicates, supply, seed)


def run(asked: Question) -> events.TrialCompleted:
    """Run the trial. Takes seconds: not for the event loop. Who asked and the molecule are added later."""
    found = virtual.assess(
        asked.design, asked.rule, replicates=asked.replicates, seed=asked.seed, supply=asked.supply
    )
    design = asked.canonical_design()
    low, high = found.success.interval
    return events.TrialCompleted(
        trial=asked.trial,
        product=asked.product,
        context_of_use=asked.context_of_use,
        model=MODEL,
        design=design,
        seed=asked.seed,
        design_hash=_hash(design),
        result_hash=bytes.fromhex(record.content_hash(found)),
        # Both kinds of runs have their own patients' courses.
        subjects=2 * 2 * asked.design.per_arm * asked.replicates,
        effect=common.Estimate(value=found.success.difference, lower=low, upper=high),
        power=found.power.success,
        probability_of_success=found.success.success,
        verdict=events.TRIAL_VERDICT_GO if found.verdict.verdict == "go" else events.TRIAL_VERDICT_NO_GO,
        statement=_statement(found),
        statement_sayings=_sayings(found, asked.rule, asked.design),
    )


def _statement(found: Assessment) -> str:
    arms = found.success
    return (
        f"{found.verdict.verdict}: {'; '.join(found.verdict.reasons)}. Rule: {found.verdict.rule}. "
        f"Time in range {arms.control:.1f} % by the fixed dose, {arms.test:.1f} % by genotype "
        f"({arms.readings}); power at the published estimates {found.power.success:.3f}."
    )


def _sayings(found: Assessment, rule: Rule, design: TrialDesign) -> list[common.Saying]:
    """The same in parts."""
    runs, least = found.success, rule.least_probability
    shown = runs.success_low >= least
    success, low, high = (round(one, 3) for one in (runs.success, runs.success_low, runs.success_high))
    parts = [
        saying("TRIAL_GO" if found.verdict.verdict == "go" else "TRIAL_NO_GO"),
        saying(
            "SUCCESS_SHOWN" if shown else "SUCCESS_NOT_SHOWN",
            success=success,
            low=low,
            high=high,
            runs=runs.replicates,
            least=least,
        ),
        saying(
            "DIFFERENCE_ENOUGH" if runs.difference >= rule.least_difference else "DIFFERENCE_BELOW",
            difference=round(runs.difference, 2),
            least=rule.least_difference,
        ),
    ]
    if not shown and runs.success_high >= least:
        parts.append(saying("MORE_RUNS_MIGHT_DECIDE"))
    control, test = round(runs.control, 1), round(runs.test, 1)
    return [
        *parts,
        saying("TRIAL_RULE", probability=least, difference=rule.least_difference),
        saying("TIME_IN_RANGE", control=control, test=test, hour=design.visit_hour),
        saying("TRIAL_POWER", power=round(found.power.success, 3)),
    ]


def _hash(document: str) -> bytes:
    return hashlib.sha256(document.encode()).digest()


def evolve(held: Trial | None, event: Message) -> Trial:
    """The trial after its one event."""
    assert isinstance(event, events.TrialCompleted)
    go = event.verdict == events.TRIAL_VERDICT_GO
    return Trial(event.trial, event.product, go, event.SerializeToString(deterministic=True))


def decide_complete(held: Trial | None, completed: events.TrialCompleted) -> list[Message]:
    """A trial is on record once."""
    return [] if held is not None else [completed]


def check_support(held: Trial | None, trial: str, product: str) -> None:
    """A trial that supports a parameter set is of its product and says go. Raises Absent, Refusal."""
    field = "content.trial"
    if held is None:
        said = f"no virtual trial {trial!r}; run it with RunTrial, or leave it out"
        raise Absent("UNKNOWN_TRIAL", said, field)
    if held.product != product:
        said = f"the trial is of product {held.product!r}; name one of {product!r}"
        raise Refusal("WRONG_PRODUCT", said, field)
    if not held.go:
        said = "the trial says no-go: it supports nothing; name one that says go, or leave it out"
        raise Refusal("TRIAL_NO_GO", said, field)


def row(completed: events.TrialCompleted, at: str) -> TrialRow:
    return TrialRow(completed.trial, completed.product, at, completed.SerializeToString(deterministic=True))
