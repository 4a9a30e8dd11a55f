"""What patients are told to take, and what the lots they receive really hold.

A rule of dosing gives the nominal daily dose of each patient. The exposed dose is nominal times the
measured potency of the lot the pack came from, never the label value alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from services.refusals import Malformed
from services.rnd.domain.errors import named, out_of_range, positive
from services.rnd.domain.trial.warfarin import (
    HILL,
    LARGEST_RISE,
    VOLUME,
    Floats,
    Patients,
    clearance,
    typical_ec50,
)

#: A measured potency outside this is a mistake of units (a percentage, say), not a lot.
LEAST_POTENCY, MOST_POTENCY = 0.5, 1.5
_INTERVAL = 24.0


@dataclass(frozen=True)
class FixedDose:
    """The same dose to all, mg a day. Raises Malformed."""

    dose: float = 3.0

    def __post_init__(self) -> None:
        positive(self.dose, "dose")

    def doses(self, patients: Patients) -> Floats:
        """The nominal daily dose of each patient, mg."""
        return np.full(len(patients), self.dose)


@dataclass(frozen=True)
class GuidedDose:
    """The dose at which a patient with these genotypes, age, weight, co-medication and INR before treatment
    has a mean INR of `target` in the steady state, by the published model with eta 0.

    Rounded to `step` (a quarter of a 2.5 mg tablet), within `lowest` and `highest` mg a day. Who is at
    the target before treatment gets the lowest. Raises Malformed.
    """

    target: float = 2.5
    step: float = 0.625
    lowest: float = 0.625
    highest: float = 6.25

    def __post_init__(self) -> None:
        for name in ("target", "step", "lowest", "highest"):
            positive(getattr(self, name), name)
        if self.target >= LARGEST_RISE:
            raise out_of_range(f"the target INR is below {LARGEST_RISE:g}", "target")
        if self.highest < self.lowest:
            raise out_of_range("the highest dose is not below the lowest", "highest")

    def doses(self, patients: Patients) -> Floats:
        """The nominal daily dose of each patient, mg.

        Over an interval the mean of E is 1 - ln((1 + a q) / (1 + a)) / ln q, with
        a = (EC50 / C(0))^Hill and q = e^(Hill CL / V 24): solved for a, then for the dose.
        """
        wanted = np.clip((self.target - patients.inr0) / LARGEST_RISE, 1e-9, None)
        rate = clearance(patients) / VOLUME
        decay = HILL * rate * _INTERVAL
        reached = np.exp((1 - wanted) * decay)
        ratio = (reached - 1) / (np.exp(decay) - reached)
        top = typical_ec50(patients) * ratio ** (-1 / HILL)
        dose = top * VOLUME * -np.expm1(-rate * _INTERVAL)
        rounded: Floats = np.clip(np.round(dose / self.step) * self.step, self.lowest, self.highest)
        return rounded


Dosing: TypeAlias = FixedDose | GuidedDose


@dataclass(frozen=True)
class LotPotency:
    """A released lot: what was measured of what the label says (0.98 is 98 %), and its part of the
    packs dispensed, in any unit. Raises Malformed."""

    lot: str
    potency: float
    share: float = 1.0

    def __post_init__(self) -> None:
        named(self.lot, "lot")
        if not LEAST_POTENCY <= self.potency <= MOST_POTENCY:
            said = f"the potency of {self.lot} is {self.potency:g}; state it as a part of the label, from "
            raise out_of_range(f"{said}{LEAST_POTENCY:g} to {MOST_POTENCY:g}", "potency")
        positive(self.share, "share")


@dataclass(frozen=True)
class Supply:
    """The lots that packs are drawn from, each pack lasting `pack_days`. Without lots every pack holds
    what the label says, and a record of the run says so. Raises Malformed."""

    lots: tuple[LotPotency, ...] = ()
    pack_days: int = 28

    def __post_init__(self) -> None:
        if self.pack_days < 1:
            raise out_of_range("a pack lasts at least a day", "pack_days")
        names = [one.lot for one in self.lots]
        if len(set(names)) != len(names):
            raise Malformed("DUPLICATE", "every lot is listed once, with its latest potency", "lots")

    def packs(self, days: int) -> int:
        """Packs that a patient needs."""
        return math.ceil(days / self.pack_days)

    def draw(self, patients: int, days: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """Which lot each pack came from, of shape (packs, patients), by the lots' shares."""
        if not self.lots:
            return np.zeros((self.packs(days), patients), dtype=np.int64)
        shares = np.array([one.share for one in self.lots])
        return rng.choice(len(shares), size=(self.packs(days), patients), p=shares / shares.sum())

    def potencies(self, drawn: npt.NDArray[np.int64], days: int) -> Floats:
        """The potency of what is taken each day: (days, patients)."""
        held = np.array([one.potency for one in self.lots] or [1.0])
        daily: Floats = np.repeat(held[drawn], self.pack_days, axis=0)[:days]
        return daily


def mean_potency(lots: Sequence[LotPotency]) -> float:
    """Of a pack, by the lots' shares; 1 without lots."""
    total = math.fsum(one.share for one in lots)
    return math.fsum(one.potency * one.share for one in lots) / total if lots else 1.0
