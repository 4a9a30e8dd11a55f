"""Two sources of the same dispenses: different actors, different errors, at the stated rates."""

from __future__ import annotations

from collections import Counter

import pytest

from services.kit.ids import dispense_id, in_kit, parse_lot, product_of
from services.world.entities import Dispense
from services.world.genealogy import descendants, outputs
from services.world.records import Feed, World
from services.world.sizes import WS

RATES = WS.rates


def pharmacy_feeds(world: World) -> list[Feed]:
    return [pharmacy.feed for pharmacy in world.pharmacies]


def hospital_feeds(world: World) -> list[Feed]:
    return [hospital.feed for hospital in world.hospitals]


def told(feeds: list[Feed]) -> list[str]:
    """The true dispense behind each record of a source, on paper too; a wrong one stands for the right."""
    right = {item.wrong.dispense: item.right.dispense for feed in feeds for item in feed.corrections}
    return [
        right.get(item.dispense, item.dispense)
        for feed in feeds
        for item in (*feed.on_time, *(late.dispense for late in feed.late), *feed.never)
    ]


def test_together_the_sources_miss_nothing(world: World) -> None:
    everything = {item.dispense for item in world.dispenses}
    strangers = {item.dispense for item in world.dispenses if not item.pseudonym}
    assert Counter(told(pharmacy_feeds(world))) == Counter(everything)
    assert Counter(told(hospital_feeds(world))) == Counter(everything - strangers)
    never = [{item.dispense for feed in feeds for item in feed.never} for feeds in
             (pharmacy_feeds(world), hospital_feeds(world))]  # fmt: skip
    assert not never[0] & never[1]


@pytest.mark.parametrize(
    ("rate", "count"),
    [
        (RATES.never_at_pharmacy, lambda w: sum(len(f.never) for f in pharmacy_feeds(w))),
        (RATES.never_at_hospital + RATES.found_out, lambda w: sum(len(f.never) for f in hospital_feeds(w))),
        (RATES.late_at_pharmacy + RATES.late_at_both, lambda w: sum(len(f.late) for f in pharmacy_feeds(w))),
        (RATES.late_at_both, lambda w: sum(len(f.late) for f in hospital_feeds(w))),
        (RATES.twice_at_pharmacy, lambda w: sum(len(f.sent_twice) for f in pharmacy_feeds(w))),
        (RATES.twice_at_hospital, lambda w: sum(len(f.sent_twice) for f in hospital_feeds(w))),
        (RATES.wrong_lot_at_pharmacy, lambda w: sum(len(f.corrections) for f in pharmacy_feeds(w))),
        (RATES.wrong_lot_at_hospital, lambda w: sum(len(f.corrections) for f in hospital_feeds(w))),
        (RATES.found_out, lambda w: sum(len(p.found_out) for p in w.pharmacies)),
        (RATES.stranger, lambda w: sum(not d.pseudonym for d in w.dispenses)),
        (RATES.opened_packs, lambda w: sum(bool(d.possible_lots) for d in w.dispenses)),
        (RATES.returned_opened, lambda w: sum(r.opened for r in w.returns())),
        (RATES.returned_unopened, lambda w: sum(not r.opened for r in w.returns())),
    ],
)
def test_each_trouble_happens_as_often_as_is_said(whole: World, rate: float, count: object) -> None:
    assert callable(count)
    assert count(whole) == pytest.approx(rate * 15_000, rel=0.05)


def test_a_dispense_has_one_trouble(world: World) -> None:
    suffered = Counter(
        [item.dispense for item in world.dispenses if item.possible_lots or not item.pseudonym]
        + [late.dispense.dispense for pharmacy in world.pharmacies for late in pharmacy.found_out]
        + [item.dispense.dispense for item in world.returns()]
        + [item.right.dispense for _, item in world.corrections()]
        + [item.dispense for feed in pharmacy_feeds(world) for item in feed.never]
    )
    assert max(suffered.values()) == 1


def test_about_half_of_the_errors_concern_faulty_lots(whole: World) -> None:
    made = outputs(whole.materials)
    faulty = {
        below
        for line in whole.lines
        for lot in line.lots
        if lot.faulty
        for below in descendants(lot.lot, made)
    }
    errors: list[Dispense] = []
    for feed in (*pharmacy_feeds(whole), *hospital_feeds(whole)):
        errors += [*feed.sent_twice, *(late.dispense for late in feed.late)]
        errors += [item.right for item in feed.corrections]
    share = sum(not faulty.isdisjoint(item.lots) for item in errors) / len(errors)
    assert 0.4 < share < 0.6


def test_a_wrong_record_names_another_lot_and_only_that(world: World) -> None:
    corrections = [item for _, item in world.corrections()]
    for item in corrections:
        wrong, right = item.wrong, item.right
        assert wrong.lot != right.lot
        assert wrong.dispense == dispense_id(right.site, right.order, wrong.lot) != right.dispense
        assert (wrong.order, wrong.pseudonym, wrong.at) == (right.order, right.pseudonym, right.at)
    assert {item.late is None for item in corrections} == {True, False}


def test_a_lot_number_of_two_makers_is_mistaken_for_the_other(whole: World) -> None:
    pairs = [(parse_lot(item.wrong.lot), parse_lot(item.right.lot)) for _, item in whole.corrections()]
    confused = [(wrong.owner, right.owner) for wrong, right in pairs if wrong.lot == right.lot]
    assert all(wrong != right for wrong, right in confused)


def test_what_a_pharmacy_cannot_name_it_sends_again_under_the_same_id(world: World) -> None:
    for pharmacy in world.pharmacies:
        first = {item.dispense: item for item in pharmacy.feed.on_time}
        for late in pharmacy.found_out:
            found = late.dispense
            assert first[found.dispense].pseudonym == first[found.dispense].site == ""
            assert found.pseudonym
            assert found.site
            assert found.dispense == dispense_id("", found.order, found.lot)


def test_of_opened_packs_every_lot_is_of_one_product(world: World) -> None:
    truly = {item.dispense: item.lot for item in world.opened}
    mixed = [item for item in world.dispenses if item.possible_lots]
    assert {item.dispense for item in mixed} == set(truly)
    for item in mixed:
        assert len({parse_lot(lot).item for lot in item.lots}) == 1
        assert truly[item.dispense] in item.lots
    assert {len(item.lots) for item in mixed} == {2, 3}


def test_the_study_is_handed_out_by_kit_whatever_is_recorded_of_it(world: World) -> None:
    """Every record of every source, also a wrong one, names a kit, and no kit is two exposures'."""
    given = [item for item in world.dispenses if item.site == "hospital-a"]
    assert len({item.lot for item in given}) == len(given) == 591
    records = [item for feed in hospital_feeds(world) for item in feed.on_time if item.site == "hospital-a"]
    orders = {item.order for item in given}
    records += [item for feed in pharmacy_feeds(world) for item in feed.on_time if item.order in orders]
    assert len(records) > 1100
    assert {product_of(lot) for item in records for lot in item.lots} == {"maker-1/kit/study-1"}
    packed = {item.lot: item for item in world.materials if item.kind == "kit"}
    assert {item.lot for item in given} == packed.keys()
    assert all(packed[item.lot].at <= item.at for item in given)
    assert not any(in_kit(item.lot) for item in world.lot_tests)
