"""Patients drawn as in Xia 2024: 646 Han Chinese patients on warfarin.

Age 54.7 +- 12.5 y (1 to 82), weight 59.7 +- 11.6 kg (7 to 106), 48.9 % female,
CYP2C9 *1/*1 94.3 % and *1/*3 5.7 %, VKORC1 AA 80.3 / GA 18.7 / GG 0.9 %,
amiodarone 25.7 %, INR before treatment 1.13 +- 0.59. The paper states no
correlations, so each is drawn alone. Age and weight are normal, drawn again
where out of range. INR before treatment is log-normal with the stated mean
and deviation: a normal one would be negative in 3 % of patients.

Patients come in blocks, each with a random stream of its own made of the seed
and the block's number. So who works on which block changes nothing: the same
seed gives the same patients, and the first 500 of 10,000 are those of 500.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from services.refusals import Malformed
from services.rnd.domain.errors import out_of_range, positive
from services.rnd.domain.trial.warfarin import Floats, Patients, joined

#: Patients that share a random stream.
BLOCK = 4096
#: What a random stream is for; it is the last part of its seed, so that no two purposes share numbers.
STREAMS = ("patients", "lots", "residual", "parameters")

Normal = tuple[float, float, float, float]  # mean, deviation, lowest, highest


@dataclass(frozen=True)
class Population:
    """What is drawn from. Shares need not sum to exactly 1 (rounded tables do not); they are scaled.

    `cyp2c9` by (n1, n2, n3), `vkorc1_g` by the number of G alleles. Raises Malformed.
    """

    age: Normal = (54.7, 12.5, 1.0, 82.0)
    weight: Normal = (59.7, 11.6, 7.0, 106.0)
    female: float = 0.489
    cyp2c9: Mapping[tuple[int, int, int], float] = field(
        default_factory=lambda: {(2, 0, 0): 0.943, (1, 0, 1): 0.057}
    )
    vkorc1_g: Mapping[int, float] = field(default_factory=lambda: {0: 0.803, 1: 0.187, 2: 0.009})
    amiodarone: float = 0.257
    inr0: tuple[float, float] = (1.13, 0.59)

    def __post_init__(self) -> None:
        for name, (mean, deviation, low, high) in (("age", self.age), ("weight", self.weight)):
            # With the mean inside its range, at least one draw in two or three is inside as well.
            if not (deviation > 0 and low < high and low <= mean <= high):
                raise out_of_range(f"{name} has a deviation above 0 and its mean within its range", name)
        for name, share in (("female", self.female), ("amiodarone", self.amiodarone)):
            if not 0 <= share <= 1:
                raise out_of_range(f"the share {name} is from 0 to 1", name)
        for name, shares in (("cyp2c9", self.cyp2c9.values()), ("vkorc1_g", self.vkorc1_g.values())):
            if not shares or min(shares) < 0 or abs(sum(shares) - 1) > 0.01:
                raise out_of_range(f"the shares of {name} are not below 0 and sum to 1", name)
        if any(min(one) < 0 or sum(one) != 2 for one in self.cyp2c9):
            raise Malformed("OUT_OF_RANGE", "a CYP2C9 genotype counts two alleles as (n1, n2, n3)", "cyp2c9")
        if any(one not in (0, 1, 2) for one in self.vkorc1_g):
            raise Malformed("OUT_OF_RANGE", "a VKORC1 genotype counts 0, 1 or 2 G alleles", "vkorc1_g")
        positive(self.inr0[0], "inr0")
        positive(self.inr0[1], "inr0")


HAN_CHINESE = Population()


def stream(seed: int, purpose: str, block: int = 0) -> np.random.Generator:
    """The random stream of a purpose (one of STREAMS) and a block. Raises Malformed for a negative seed."""
    if seed < 0:
        raise Malformed("OUT_OF_RANGE", "a seed is a whole number, not below 0", "seed")
    return np.random.default_rng([seed, block, STREAMS.index(purpose)])


def sample(count: int, seed: int, population: Population = HAN_CHINESE) -> Patients:
    """So many patients. Raises Malformed."""
    if count < 1:
        raise out_of_range("draw at least one patient", "count")
    blocks = [block(seed, number, population) for number in range(-(-count // BLOCK))]
    return joined(blocks).part(slice(0, count))


def block(seed: int, number: int, population: Population = HAN_CHINESE) -> Patients:
    """The patients of one block, BLOCK of them."""
    rng = stream(seed, "patients", number)
    age, weight = _within(rng, population.age), _within(rng, population.weight)
    alleles = np.array(list(population.cyp2c9))[_chosen(rng, population.cyp2c9)]
    g = np.array(list(population.vkorc1_g))[_chosen(rng, population.vkorc1_g)]
    mean, deviation = population.inr0
    spread = math.log1p((deviation / mean) ** 2)
    return Patients(
        age=age,
        weight=weight,
        star1=alleles[:, 0],
        star2=alleles[:, 1],
        star3=alleles[:, 2],
        g=g,
        amiodarone=(rng.random(BLOCK) < population.amiodarone).astype(np.int64),
        female=(rng.random(BLOCK) < population.female).astype(np.int64),
        inr0=np.exp(math.log(mean) - spread / 2 + math.sqrt(spread) * rng.standard_normal(BLOCK)),
        eta=rng.standard_normal(BLOCK),
    )


def _chosen(rng: np.random.Generator, shares: Mapping[Any, float]) -> npt.NDArray[np.int64]:
    chances = np.array(list(shares.values()))
    return rng.choice(len(chances), size=BLOCK, p=chances / chances.sum())


def _within(rng: np.random.Generator, normal: Normal) -> Floats:
    mean, deviation, low, high = normal
    values = rng.normal(mean, deviation, BLOCK)
    while np.any(out := (values < low) | (values > high)):
        values[out] = rng.normal(mean, deviation, int(out.sum()))
    return values
