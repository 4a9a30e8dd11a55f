"""What noise costs: the reference values of the field, and bounds that hold whatever the numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from services.exchange.domain.disclosure import accounting, noise
from services.refusals import Malformed

#: (q, sigma, steps, delta) -> (Renyi, PLD), by dp-accounting 0.6.0 with its defaults.
REFERENCE = {
    (0.01, 4.0, 10_000, 1e-5): (1.035490, 0.946999),
    (0.02, 2.0, 1_000, 1e-5): (1.458470, 1.329685),
    (0.001, 1.0, 1_000, 1e-6): (0.869708, 0.185571),
    (1.0, 4.0, 100, 1e-5): (14.132226, 13.206712),
    (0.01, 20.0, 1, 1e-5): (0.003633, 0.000879),
}


@pytest.mark.parametrize("steps", REFERENCE)
def test_epsilon_of_sampled_gaussian_steps(steps: tuple[float, float, int, float]) -> None:
    renyi, pld = REFERENCE[steps]
    assert accounting.renyi_epsilon(*steps).epsilon == pytest.approx(renyi, abs=1e-6)
    assert accounting.pld_epsilon(*steps).epsilon == pytest.approx(pld, abs=1e-6)


def test_where_fractional_orders_decide_renyi_is_exact() -> None:
    # dp-accounting bounds fractional orders from above here (40.256 and 1.930838).
    assert 39 < accounting.renyi_epsilon(0.1, 0.5, 100, 1e-6).epsilon < 40.256
    assert accounting.renyi_epsilon(0.5, 8.0, 50, 1e-5).epsilon == pytest.approx(1.930822, abs=1e-6)
    assert accounting.pld_epsilon(0.1, 0.5, 100, 1e-6).epsilon == pytest.approx(35.326390, abs=1e-5)


def _gaussian_delta(epsilon: float, sigma: float) -> float:
    """Balle and Wang, ICML 2018: of one Gaussian mechanism with sensitivity 1."""

    def cdf(z: float) -> float:
        return math.erfc(-z / math.sqrt(2)) / 2

    half, shift = 1 / (2 * sigma), epsilon * sigma
    return cdf(half - shift) - math.exp(epsilon) * cdf(-half - shift)


@settings(deadline=None, max_examples=12)
@given(st.floats(0.5, 20), st.integers(1, 200), st.sampled_from([1e-4, 1e-6, 1e-9]))
def test_without_sampling_the_distribution_gives_the_closed_form(
    sigma: float, steps: int, delta: float
) -> None:
    cost = accounting.pld_epsilon(1.0, sigma, steps, delta)
    if cost.epsilon:
        assert _gaussian_delta(cost.epsilon, sigma / math.sqrt(steps)) == pytest.approx(delta, rel=2e-3)
    assert cost.epsilon <= accounting.renyi_epsilon(1.0, sigma, steps, delta).epsilon


def test_the_maps_of_one_mechanism() -> None:
    assert accounting.laplace_epsilon(2, 1) == 0.5
    assert accounting.gaussian_rho(1, 1) == 0.5
    assert accounting.gaussian_rho(2, 1) == 0.125
    assert accounting.rho_epsilon(0.5, 1e-5) < 0.5 + 2 * math.sqrt(0.5 * math.log(1e5)), "Bun, Steinke 2016"
    assert accounting.rho_epsilon(0.5, 1e-5) > accounting.pld_epsilon(1, 1, 1, 1e-5).epsilon


def test_a_cost_is_shown_with_all_it_depends_on() -> None:
    cost = accounting.pld_epsilon(0.01, 4.0, 10, 1e-5)
    assert (cost.accountant, cost.sampling, cost.sigma, cost.steps, cost.delta) == (
        "PLD",
        0.01,
        4.0,
        10,
        1e-5,
    )
    assert accounting.renyi_epsilon(0.01, 4.0, 10, 1e-5).accountant == "RDP"


def test_more_noise_and_fewer_steps_cost_less() -> None:
    def cost(sigma: float, steps: int) -> float:
        return accounting.pld_epsilon(0.05, sigma, steps, 1e-6).epsilon

    assert cost(4.0, 100) < cost(2.0, 100) < cost(2.0, 400)


def test_a_very_small_noise_has_a_very_large_cost_and_no_error() -> None:
    cost = accounting.pld_epsilon(1.0, 0.2, 1, 1e-5)
    assert _gaussian_delta(cost.epsilon, 0.2) == pytest.approx(1e-5, rel=2e-3)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ((0.0, 1.0, 1, 1e-5), "sampling"),
        ((1.1, 1.0, 1, 1e-5), "sampling"),
        ((0.1, 0.0, 1, 1e-5), "sigma"),
        ((0.1, 1.0, 0, 1e-5), "steps"),
        ((0.1, 1.0, 1, 0.0), "delta"),
        ((0.1, 1.0, 1, 1.0), "delta"),
    ],
)
def test_bad_numbers_are_refused_by_name(arguments: tuple[float, float, int, float], field: str) -> None:
    for accountant in (accounting.pld_epsilon, accounting.renyi_epsilon):
        with pytest.raises(Malformed) as refusal:
            accountant(*arguments)
        assert refusal.value.field == field


def test_the_least_noise_within_epsilon_is_that_of_the_closed_form() -> None:
    for epsilon, delta in ((1.0, 1e-6), (0.5, 1e-5), (3.0, 1e-9)):
        cost = accounting.calibrated(epsilon, delta)
        assert cost.epsilon <= epsilon
        assert _gaussian_delta(epsilon, cost.sigma) == pytest.approx(delta, rel=1e-3)
        assert accounting.pld_epsilon(1.0, cost.sigma * 0.999, 1, delta).epsilon > epsilon
    assert accounting.calibrated(1.0, 1e-6).accountant == "PLD"
    for epsilon, delta, field in ((0.0, 1e-6, "epsilon"), (1.0, 0.0, "delta")):
        with pytest.raises(Malformed) as refusal:
            accounting.calibrated(epsilon, delta)
        assert refusal.value.field == field


def _key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def test_the_shares_of_the_sites_make_the_noise_without_the_one_that_talks() -> None:
    sites, scale = 4, np.full(50_000, 3.0)
    each = noise.share(scale, sites)
    shares = [noise.gaussian(np.zeros(50_000), each, _key(site)) for site in range(sites)]
    assert np.std(sum(shares[1:])) == pytest.approx(3.0, rel=0.02)
    with pytest.raises(Malformed, match="NO_NOISE_LEFT"):
        noise.share(scale, 3, colluding=3)
    for bad in (np.zeros(3), np.array([1.0, -1.0]), np.array([np.inf])):
        with pytest.raises(Malformed, match="NO_SCALE"):
            noise.gaussian(np.zeros(len(bad)), bad, _key(1))


def test_noise_is_normal_and_of_its_key_alone() -> None:
    drawn = noise.gaussian(np.zeros(100_001), np.ones(100_001), _key(5))
    assert stats.kstest(drawn, "norm").pvalue > 1e-3
    assert abs(np.corrcoef(drawn[:50_000], drawn[50_000:100_000])[0, 1]) < 0.02
    assert (drawn == noise.gaussian(np.zeros(100_001), np.ones(100_001), _key(5))).all()
    assert not (drawn == noise.gaussian(np.zeros(100_001), np.ones(100_001), _key(6))).any()


def test_the_last_bits_of_a_noised_number_do_not_give_it_away() -> None:
    """Of any two counts the same sums can come: all lie on one grid, whatever was added to."""
    scale = np.full(1000, 3.0)
    for exact in (0.0, 17.0, 0.1):
        noised = noise.gaussian(np.full(1000, exact), scale, _key(2))
        assert (noised * 2.0**19 == np.rint(noised * 2.0**19)).all()


def test_a_number_without_noise_stays_as_it_is() -> None:
    noised = noise.gaussian(np.array([3.0, 0.1]), np.array([1.0, 0.0]), _key(3))
    assert noised[1] == 0.1
    assert noised[0] != 3.0
