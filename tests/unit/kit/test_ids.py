"""Identity: one text for one thing, and one id for one happening."""

from __future__ import annotations

import string

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from services.kit import ids
from services.kit.errors import Invalid

PART = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
PARTS = st.lists(st.text(st.characters(codec="utf-8"), max_size=6), min_size=1, max_size=4)
#: Texts over what joins and escapes, where two could become one.
TRICKY = st.lists(st.text("ab|/\x1e\x1f\\%", max_size=5), min_size=2, max_size=2)


@given(PART, PART, PART, PART)
def test_any_lot_has_one_key_and_comes_back_from_it(owner: str, scheme: str, item: str, lot: str) -> None:
    key = ids.lot_key(owner, scheme, item, lot)
    assert ids.parse_lot(key) == (owner, scheme, item, lot)
    assert set(key) <= set(string.ascii_letters + string.digits + "-._~%/")
    assert ids.product_of(key) == ids.check_product(ids.product_key(owner, scheme, item))
    assert ids.lot_key(*ids.parse_lot(key)) == key


@pytest.mark.parametrize(
    ("parts", "key"),
    [
        (("maker-1", "gtin", "04012345678901", "L.7_a~b"), "maker-1/gtin/04012345678901/L.7_a~b"),
        (("a/b", "s", "i", "50% new"), "a%2Fb/s/i/50%25%20new"),
        (("药厂", "s", "é", "ü"), "%E8%8D%AF%E5%8E%82/s/%C3%A9/%C3%BC"),
    ],
)
def test_keys_are_written_as_rfc_3986_says(parts: tuple[str, str, str, str], key: str) -> None:
    assert ids.lot_key(*parts) == key


@pytest.mark.parametrize(
    "key",
    [
        "",
        "lot-7",
        "a/b/c",
        "a/b/c/d/e",
        "a//c/d",
        "/b/c/d",
        "a/b/c/",
        "a/b/c/d e",
        "a/b/c/%2f",  # lower case
        "a/b/c/%41",  # an encoded letter
        "a/b/c/%FF",  # no UTF-8
        "a/b/c/%",
        "a/b/c/é",
        " a/b/c/d",
    ],
)
def test_what_is_not_canonical_is_refused_with_its_field(key: str) -> None:
    with pytest.raises(Invalid) as caught:
        ids.parse_lot(key, "inputs[2].lot")
    assert (caught.value.reason, caught.value.field) == ("NOT_CANONICAL", "inputs[2].lot")
    with pytest.raises(Invalid) as caught:
        ids.check_product(key.removesuffix("c") + "x y")
    assert caught.value.field == "product"


def test_a_product_is_no_lot_and_a_lot_no_product() -> None:
    with pytest.raises(Invalid):
        ids.parse_lot("a/b/c")
    with pytest.raises(Invalid):
        ids.check_product("a/b/c/d")


@given(PARTS, PARTS)
def test_other_parts_give_another_id(one: list[str], other: list[str]) -> None:
    assume(one != other)
    assert ids.derived_id(*one) != ids.derived_id(*other)
    assert ids.derived_id(*one) == ids.derived_id(*one)


@given(TRICKY, TRICKY)
@example(["a\x1f", "b"], ["a", "\x1fb"])
@example(["a\x1e1b", "c"], ["a\x1fb", "c"])
@example(["a\x1fb"], ["a", "b"])
def test_no_text_can_pass_for_two(one: list[str], other: list[str]) -> None:
    # Orders and records are named by partners: a name must not reach into its neighbour's place.
    assume(one != other)
    assert ids.derived_id(*one) != ids.derived_id(*other)


def test_ids_are_the_same_in_every_build() -> None:
    # Another value here means: every fact and effect on the topics gets a second id.
    assert ids.derived_id("dispense", "hospital-a", "o-1", "m/gtin/1/7") == GOLDEN_ID
    assert ids.dispense_id("hospital-a", "o-1", "m/gtin/1/7") == GOLDEN_ID
    assert ids.plan_id("r", "p") != ids.dispense_id("r", "p", "")


GOLDEN_ID = "e120645d-defa-527c-8340-96304a5a3bc1"


def test_kinds_of_ids_do_not_meet() -> None:
    made = {ids.effect_id("a", "b", "c"), ids.dispense_id("a", "b", "c"), ids.derived_id("a", "b", "c")}
    assert len(made) == 3
    assert ids.new_id() != ids.new_id()


@given(PART, PART, PART, PART)
def test_a_case_tells_its_loop_and_two_transfers_are_never_one(a: str, b: str, c: str, d: str) -> None:
    lot, transfer, study = ids.lot_key(a, b, c, d), ids.transfer_case(a, b), ids.study_case(a)
    assert [ids.loop_of(case) for case in (lot, transfer, study)] == ["safety", "transfer", "evidence"]
    assert (ids.transfer_case(c, d) == transfer) == ((c, d) == (a, b))


def test_a_transfer_is_the_parameter_set_at_the_plant() -> None:
    assert ids.transfer_case("warfarin/2", "plant b") == "transfer:warfarin%2F2/plant%20b"
    assert ids.study_case("bleeding-1") == "study:bleeding-1"
