"""One seed, one anchor, one size: one world."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from services.kit.ids import parse_lot
from services.world.entities import Line, Material, Observation
from services.world.names import Names
from services.world.records import World
from services.world.sizes import WS, Size
from services.world.worldgen import effects
from services.world.worldgen.cdisc import Pilot
from services.world.worldgen.dispensing import Shelf, dispense_all
from services.world.worldgen.feeds import Scribes, harmful
from services.world.worldgen.follow_up import blood_of, follow_ups, tubes
from services.world.worldgen.hospitals import Hospitals, notices
from services.world.worldgen.kits import as_kits, with_kits, without_kits
from services.world.worldgen.lines import make_line, used_lots
from services.world.worldgen.mishaps import Mishaps
from services.world.worldgen.observations import lot_tests, made_observations, pilot_observations
from services.world.worldgen.packing import Packing, recipes
from services.world.worldgen.people import People, rebase
from services.world.worldgen.supply import Deliveries, made_at, with_amounts
from services.world.worldgen.treatment import treatment


def generate(
    seed: int,
    anchor: datetime,
    pilot: Pilot,
    runs: Mapping[int, int],
    size: Size = WS,
    series: str = "",
    *,
    findings: bool = True,
) -> World:
    """The world of a seed; `anchor` is the platform's now, `runs` the samples of each real dryer run.

    `series` keeps its names apart from those of another world on the same platform. Without
    `findings` nothing that was observed of patients is made; the rest is the same.
    """
    names = Names(seed, series, size.shared_number)
    study = pilot if size.pilot else None
    people = People(size, study, anchor, names.draw())
    shelves, handed_out = dispense_all(people.needs, size.products, names)
    lines, materials = _material(size, names, shelves, runs, anchor)
    kits = as_kits(handed_out, shelves, names) if study else without_kits(handed_out)
    materials = with_kits(materials, kits)
    counter = Mishaps(shelves, size.rates, names, anchor).happen(kits.dispenses)
    shipments = Deliveries(size, names).of(counter.dispenses, made_at(materials))
    materials = with_amounts(materials, shipments)
    faulty = effects.faulty_lots(lines)
    inside = effects.implicated(faulty, materials)
    harms = effects.harms(counter.dispenses, counter.opened, counter.returns, inside, faulty)
    if unused := sorted(set(faulty) - {harm.lot for harm in harms}):
        raise AssertionError(f"faulty lots without a patient: {unused}")
    blood = blood_of(people.persons, harms, names)
    hospitals = Hospitals(people.persons, names, anchor, size.rates)
    scribes = Scribes(size, names, [*shelves.values(), kits.shelf], anchor, _confused(materials))
    errors = scribes.errors(counter, harmful(counter.dispenses, inside.keys()))
    observed: list[Observation] = []
    if findings:
        observed += made_observations(counter.dispenses, harms, size, names, anchor)
        if study is not None:
            observed += pilot_observations(study, rebase(study, anchor), names, anchor)
    return World(
        seed=seed,
        series=series,
        size=size.name,
        anchor=anchor,
        lines=lines,
        materials=materials,
        shipments=shipments,
        dispenses=counter.dispenses,
        opened=counter.opened,
        pharmacies=scribes.pharmacies(counter, errors),
        hospitals=hospitals.make(
            scribes.hospitals(counter, errors), harms, follow_ups(size, shelves), tubes(blood)
        ),
        harms=harms,
        blood=blood,
        observations=tuple(sorted(observed, key=lambda item: (item.at, item.pseudonym, item.code))),
        lot_tests=lot_tests(materials, inside, faulty, names, _live(lines), size.rates.misread),
        notices=notices(people.persons, names),
        hazards=effects.hazards(faulty),
        treatment=treatment(size.treatment, size.sites, names, anchor) if size.treatment else None,
    )


def _material(
    size: Size, names: Names, shelves: Mapping[str, Shelf], runs: Mapping[int, int], now: datetime
) -> tuple[tuple[Line, ...], tuple[Material, ...]]:
    """The lines with their runs, and every record that a lot was made from lots."""
    made = {lot.lot: lot.made for shelf in shelves.values() for lot in shelf.lots}
    lines, plans = [], []
    for line in size.lines:
        plan = recipes(line, used_lots(line, names), shelves.values(), names)
        lines.append(make_line(line, names, runs, plan.first_use(made), now))
        plans.append(plan)
    return tuple(lines), Packing(size, names, now).records(lines, shelves.values(), plans)


def _live(lines: Iterable[Line]) -> set[str]:
    return {lot.lot for line in lines for lot in line.lots if lot.live}


def _confused(materials: Iterable[Material]) -> dict[str, str]:
    """Finished lots of two makers that bear the same number."""
    by_number: dict[str, set[str]] = {}
    for item in materials:
        if item.unit == "{pack}":
            by_number.setdefault(parse_lot(item.lot).lot, set()).add(item.lot)
    pairs = [sorted(lots) for lots in by_number.values() if len(lots) > 1]
    return {one: other for pair in pairs for one, other in (pair, pair[::-1])}
