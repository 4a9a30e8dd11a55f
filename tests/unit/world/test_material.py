"""Where the material went: the graph of lots, and packs that nobody gives away without having them."""

from __future__ import annotations

from collections import Counter, defaultdict

from services.kit.ids import parse_lot
from services.world.genealogy import descendants, outputs
from services.world.names import PLACEBO
from services.world.records import World


def inputs(world: World) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for item in world.materials:
        found[item.lot] |= set(item.inputs)
    return found


def test_nothing_is_made_before_what_is_inside(world: World) -> None:
    made = {}
    for item in reversed(world.materials):
        made[item.lot] = item.at
    for item in world.materials:
        assert all(made[used] <= item.at for used in item.inputs), item
    for given in world.dispenses:
        assert all(made[lot] <= given.at for lot in given.lots)


def test_the_graph_has_no_cycle_and_the_depth_that_was_asked_for(world: World) -> None:
    below = inputs(world)

    def depth(lot: str, path: tuple[str, ...] = ()) -> int:
        assert lot not in path, f"cycle: {path}"
        return 1 + max((depth(used, (*path, lot)) for used in below[lot]), default=0)

    deepest = max(depth(lot) for lot in list(below))
    assert deepest >= 5  # raw, line, packed, reworked, packed again


def test_lots_are_split_merged_reworked_and_packed_again(world: World) -> None:
    kinds = Counter(item.kind for item in world.materials)
    assert kinds["packed"] + kinds["repacked"] == 60
    assert kinds["repacked"] == 9
    assert kinds["reworked"] == 5
    packed = [item for item in world.materials if item.kind == "packed"]
    assert {len(item.inputs) for item in packed} >= {1, 2}
    used = Counter(lot for item in packed for lot in item.inputs)
    assert max(used.values()) >= 2
    for item in world.materials:
        if item.kind == "repacked":
            assert parse_lot(item.lot).owner == "cmo-1"
            assert {parse_lot(lot).item for lot in item.inputs} == {parse_lot(item.lot).item}
        if item.kind == "reworked":
            assert item.source == "cmo-1/mes"
            assert parse_lot(item.lot).owner == parse_lot(item.inputs[0]).owner != "cmo-1"


def test_two_makers_use_one_number(world: World) -> None:
    by_number: dict[str, set[str]] = defaultdict(set)
    for item in world.materials:
        if item.unit == "{pack}":
            by_number[parse_lot(item.lot).lot].add(item.lot)
    shared = [lots for lots in by_number.values() if len(lots) > 1]
    assert [sorted(parse_lot(lot).owner for lot in lots) for lots in shared] == [["maker-1", "maker-2"]]


def test_every_faulty_lot_has_patients_and_no_placebo(world: World) -> None:
    made = outputs(world.materials)
    for lot in (lot for line in world.lines for lot in line.lots if lot.faulty):
        below = descendants(lot.lot, made)
        given = [item for item in world.dispenses if not below.isdisjoint(item.lots)]
        assert len({item.pseudonym for item in given}) >= 5
        assert all(parse_lot(item.lot).item != PLACEBO.gtin for item in given)


def test_no_place_gives_away_what_it_never_had(world: World) -> None:
    """Brute force over the events of each place and lot, in order of time."""
    owner = {item.lot: parse_lot(item.lot).owner for item in world.materials}
    stock: Counter[tuple[str, str]] = Counter()
    for item in world.materials:
        if item.unit in ("{pack}", "{kit}"):
            stock[owner[item.lot], item.lot] += round(item.amount)
    moves = [(item.at, item.to_place, item.from_place, item.lot, item.amount) for item in world.shipments]
    moves += [
        (item.at, f"patient {number}", item.pharmacy, item.lot, 1)
        for number, item in enumerate(world.dispenses)
    ]
    for _, taker, giver, lot, amount in sorted(moves):
        stock[giver, lot] -= amount
        assert stock[giver, lot] >= 0, (giver, lot)
        stock[taker, lot] += amount


def test_some_packs_go_from_pharmacy_to_pharmacy(world: World) -> None:
    ways = Counter(
        (item.from_place.partition("-")[0], item.to_place.partition("-")[0]) for item in world.shipments
    )
    assert set(ways) == {
        ("maker", "wholesaler"),
        ("maker", "pharmacy"),  # kits of the study
        ("cmo", "wholesaler"),
        ("wholesaler", "pharmacy"),
        ("pharmacy", "pharmacy"),
    }
    assert 0.01 < ways["pharmacy", "pharmacy"] / ways["wholesaler", "pharmacy"] < 0.10


def test_tests_of_lots_show_the_faults_and_nothing_else(world: World) -> None:
    faulty = {lot.lot: lot.fault for line in world.lines for lot in line.lots if lot.faulty}
    made = outputs(world.materials)
    touched = {lot for root in faulty for lot in descendants(root, made)}
    out = {item.lot for item in world.lot_tests if not item.low <= item.value <= item.high}
    assert out <= touched
    shown = {fault.kind for lot, fault in faulty.items() if fault and lot in out}
    assert {"contamination", "feed-loss"} <= shown
    assert not shown & {"sensor-drift", "agitation-loss"}


def test_every_record_has_an_id_of_its_own(world: World) -> None:
    records = [item.record for item in world.materials]
    records += [shipment.record for shipment in world.shipments]
    records += [back.record for back in world.returns()]
    records += [correction.record for _, correction in world.corrections()]
    assert all(records)
    assert len(records) == len(set(records))
