"""What is planted in the world's medicine is found, as often as the size of a study promises.

Found: p < 0.05 in the right direction. A study that the platform refuses has found nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from services.exchange.domain.errors import Unfit
from services.exchange.domain.stats.glm import Linear, Logistic
from services.exchange.domain.stats.protocol import Estimate
from services.world.treatment import CARRIER, Effects
from tests.unit.exchange.oracles import hospitals

PLANTED = Effects()
LOG_ODDS = math.log(PLANTED.bleeding_warm / (1 - PLANTED.bleeding_warm)) - math.log(
    PLANTED.bleeding / (1 - PLANTED.bleeding)
)
DIFFERENCE = PLANTED.response_carrier - PLANTED.response
LOTS, SEEDS, POWER, LEVEL = 24, 20, 0.9, 0.95
#: Share of the genotype, and of those who consent, in the world; checked below.
CARRIERS, CONSENT = 0.2, 0.92

FOR_BAND = hospitals.people_for_band(
    PLANTED.bleeding, PLANTED.bleeding_warm, LOTS, PLANTED.between_lots, POWER
)
FOR_GENOTYPE = hospitals.people_for_difference(DIFFERENCE, PLANTED.response_spread, CARRIERS, POWER)


def at_each(people: int) -> int:
    """People at each of three hospitals of whom so many consent to research."""
    return math.ceil(people / CONSENT / len(hospitals.SITES))


def of_band(seed: int, people: int, lots: int = LOTS) -> Estimate:
    made = hospitals.medicine(seed, lots, people)
    held = hospitals.tables(made, hospitals.band(made))
    spec = hospitals.of_band([lot.lot for lot in made.lots])
    return hospitals.answer(Logistic(), spec, held).estimate("exposed")


def of_genotype(seed: int, people: int, lots: int = LOTS) -> Estimate:
    made = hospitals.medicine(seed, lots, people)
    held = hospitals.tables(made, hospitals.genotype(made))
    return hospitals.answer(Linear(), hospitals.of_genotype(), held).estimate("exposed")


def answers(ask: Callable[[int, int], Estimate], people: int, seeds: int) -> list[Estimate]:
    """The answers to a question in worlds of different seeds; a refusal is none."""
    found = []
    for seed in range(seeds):
        try:
            found.append(ask(seed, people))
        except Unfit:
            continue
    return found


def found(estimates: list[Estimate], sign: int) -> int:
    return sum(_number(one.p_value) < 0.05 and _number(one.value) * sign > 0 for one in estimates)


def covering(estimates: list[Estimate], truth: float) -> int:
    return sum(_number(one.lower) <= truth <= _number(one.upper) for one in estimates)


def _number(value: float | None) -> float:
    assert value is not None
    return value


def test_of_twenty_studies_of_90_percent_power_fourteen_is_the_exact_limit() -> None:
    assert (hospitals.fewest(SEEDS, POWER), hospitals.fewest(SEEDS, LEVEL)) == (14, 16)
    assert (FOR_BAND, FOR_GENOTYPE) == (170, 28)
    takers = hospitals.medicine(0, LOTS, 4000).takers
    assert sum(taker.genotype == CARRIER for taker in takers) / len(takers) == pytest.approx(
        CARRIERS, abs=0.015
    )
    assert sum(taker.research for taker in takers) / len(takers) == pytest.approx(CONSENT, abs=0.01)


@pytest.mark.parametrize(
    ("ask", "people", "sign", "truth"),
    [
        pytest.param(of_band, at_each(FOR_BAND), 1, LOG_ODDS, id="band, sized for 90 % power"),
        pytest.param(of_band, 200, 1, LOG_ODDS, id="band, small world"),
        pytest.param(of_genotype, at_each(FOR_GENOTYPE), -1, DIFFERENCE, id="genotype, sized for 90 % power"),
        pytest.param(of_genotype, 200, -1, DIFFERENCE, id="genotype, small world"),
    ],
)
def test_what_is_planted_is_found_over_twenty_seeds(ask: Any, people: int, sign: int, truth: float) -> None:
    estimates = answers(ask, people, SEEDS)
    assert found(estimates, sign) >= hospitals.fewest(SEEDS, POWER)
    assert covering(estimates, truth) >= hospitals.fewest(len(estimates), LEVEL)


@pytest.mark.parametrize(
    ("ask", "people", "truth"), [(of_band, at_each(FOR_BAND), LOG_ODDS), (of_genotype, 60, DIFFERENCE)]
)
def test_intervals_cover_what_is_planted_in_95_of_a_hundred(ask: Any, people: int, truth: float) -> None:
    estimates = answers(ask, people, 200)
    assert len(estimates) == 200
    assert covering(estimates, truth) >= hospitals.fewest(200, LEVEL)


def test_a_direction_that_is_not_planted_is_not_found() -> None:
    estimates = answers(of_band, 200, SEEDS)
    assert found(estimates, -1) == 0
    assert covering(estimates, 0.0) < hospitals.fewest(SEEDS, LEVEL)
