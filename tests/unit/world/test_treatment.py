"""What is planted in the developer's medicine: in its lots, its takers, and the plant that makes it."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from statistics import fmean

import pytest

from services.world.names import Names
from services.world.plans import BAND, GENOTYPE, MARKETING, WRONG_REQUESTS
from services.world.records import World
from services.world.sizes import SAFETY, SIZES, SMALL, TreatmentSize
from services.world.treatment import CARRIER, DAYS, Taker, Treatment
from services.world.true_plant import results
from services.world.truth import summary
from services.world.worldgen.treatment import treatment
from tests.unit.world.support import ANCHOR

SITES = ("hospital-a", "hospital-b", "hospital-c")
#: So many that chance does not hide what is planted.
LARGE = TreatmentSize(lots=60, people=3000)
POINTS = {"agitation": 320.0, "aeration": 160.0, "feed": 1.26, "temperature": 298.0, "ph": 5.0}


@pytest.fixture(scope="module")
def large() -> Treatment:
    return treatment(LARGE, SITES, Names(7), ANCHOR)


def bled(takers: Iterable[Taker]) -> float:
    return fmean(taker.bled is not None for taker in takers)


def test_warm_lots_make_bleeding_more_likely_and_carriers_respond_less(large: Treatment) -> None:
    warm = {lot.lot for lot in large.lots if lot.warm}
    assert len(warm) == len(large.lots) / 2
    effects = large.effects
    in_band = [taker for taker in large.takers if taker.lot in warm]
    others = [taker for taker in large.takers if taker.lot not in warm]
    assert bled(in_band) == pytest.approx(effects.bleeding_warm, abs=0.03)
    assert bled(others) == pytest.approx(effects.bleeding, abs=0.02)
    for carrier, mean in ((True, effects.response_carrier), (False, effects.response)):
        moved = [
            taker.inr_after - taker.inr_before
            for taker in large.takers
            if (taker.genotype == CARRIER) is carrier
        ]
        assert fmean(moved) == pytest.approx(mean, abs=0.06)


def test_who_gets_a_warm_lot_has_nothing_to_do_with_who_they_are(large: Treatment) -> None:
    """Else a study could find the people, and not the lots."""
    warm = {lot.lot for lot in large.lots if lot.warm}
    arms = [[t for t in large.takers if (t.lot in warm) is inside] for inside in (True, False)]
    for share in (lambda t: t.genotype == CARRIER, lambda t: t.sex == "F", lambda t: t.age >= 65):
        assert abs(fmean(map(share, arms[0])) - fmean(map(share, arms[1]))) < 0.04


def test_what_happens_happens_in_the_window_that_is_asked_for(large: Treatment) -> None:
    for taker in large.takers:
        assert taker.enrolled < taker.begun < ANCHOR
        if taker.bled:
            assert 0 < (taker.bled - taker.begun).days + 1 <= DAYS
            assert taker.bled < ANCHOR


def test_the_same_seed_makes_the_same_medicine_and_another_series_shares_nobody(large: Treatment) -> None:
    assert treatment(LARGE, SITES, Names(7), ANCHOR) == large
    other = treatment(LARGE, SITES, Names(7, "x"), ANCHOR)
    assert not {taker.pseudonym for taker in other.takers} & {taker.pseudonym for taker in large.takers}
    assert not {lot.lot for lot in other.lots} & {lot.lot for lot in large.lots}
    assert other.product != large.product


def test_the_truth_says_how_everything_must_end(world: World) -> None:
    held = summary(world)["treatment"]
    assert held["transfers"]["versions"] == SMALL.treatment.transfers  # type: ignore[union-attr]
    assert held["transfers"]["misfit"]["rules"]
    ends = {one["name"]: (one["outcome"], one["sign"]) for one in held["studies"]}
    assert ends == {
        BAND: ("closed", 1),
        GENOTYPE: ("closed", -1),
        MARKETING: ("refused", 0),
        **{name: ("", 0) for name, _ in WRONG_REQUESTS},
    }


def test_a_size_without_the_developer_is_the_same_industry() -> None:
    assert SIZES[SAFETY.name] is SAFETY
    assert SAFETY.treatment is None
    assert (SAFETY.lines, SAFETY.products, SAFETY.patients) == (SMALL.lines, SMALL.products, SMALL.patients)


# -- the plant ------------------------------------------------------------------------------


def test_a_lot_is_what_its_set_points_make_it() -> None:
    """The same for the same lot; more feed makes more; no two lots are quite alike."""
    one = results(POINTS, Random("a"))
    assert results(POINTS, Random("a")) == one
    assert results(POINTS, Random("b")) != one
    more = results({**POINTS, "feed": 1.40}, Random("a"))
    assert more["titre"] > one["titre"]
    assert set(one) == {"titre", "impurity"}
