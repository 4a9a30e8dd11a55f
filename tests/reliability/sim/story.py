"""What truly happens in a simulated world, made from its seed: lots, patients, dispenses, people's minds.

This is the truth that the platform is judged by. It knows nothing of how the
platform works.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from services.kit.ids import KIT, dispense_id, lot_key
from tests.reliability.sim.process import SITES

PRODUCT = "maker/item/API"
OVEN = "plant-1/oven-1"
TAGS = ("Temp", "Load")
GTIN = "04012345678901"
#: A result below is out of specification.
LEAST = 95.0
#: Of the lots of one level the third, where there is one, is a kit of a blinded study.
_KIT_AT = 2


@dataclass(frozen=True)
class Root:
    """A lot that runs in the plant, and the tags that leave their golden run in it."""

    lot: str
    faulty: tuple[str, ...]


@dataclass(frozen=True)
class Material:
    """A record that a lot was made from others."""

    lot: str
    inputs: tuple[str, ...]
    record: str
    late: bool


@dataclass(frozen=True)
class Person:
    """A patient: what they say of consent, oldest first, and what they answer (None: never)."""

    site: str
    pseudonym: str
    consents: tuple[bool, ...]
    answer: bool | None


@dataclass(frozen=True)
class Given:
    """A pack that a patient received, and who tells of it.

    `told`: "both", "hospital" (only the site's own record), "pharmacy" (only
    the pharmacy's), "piecemeal" (the pharmacy learns the patient later),
    "nobody" (nobody ever learns the patient). `became`: "" or "returned"
    (complete, unopened), "opened" (came back opened), "corrected" (everybody
    who told of it takes it back). `mixed`: the lot that it may be from instead.
    """

    person: Person
    lot: str
    order: str
    told: str
    twice: bool
    late: bool
    became: str = ""
    mixed: str = ""

    @property
    def id(self) -> str:
        site = "" if self.told in ("piecemeal", "nobody") else self.person.site
        return dispense_id(site, self.order, self.lot)


@dataclass(frozen=True)
class Tested:
    """A result of the laboratory; within specification it is 95 or more. `day` is when it was tested."""

    lot: str
    record: str
    value: float
    day: float


@dataclass(frozen=True)
class Story:
    """A world. `rejected` are the (lot, tag) that quality takes for false alarms; `tested` are results of
    lots, of which those of the lots in `stands` are out of specification for good;
    `unfinished` says what stays unexplained for ever, if anything does. `hours` is how long
    the hospitals follow patients up with questions of their own (0: with the one open
    question); `reports` are the patients whose itching their hospital reports unasked, with
    the days after the start at which it began."""

    seed: int
    roots: tuple[Root, ...]
    started: tuple[str, ...]
    materials: tuple[Material, ...]
    people: tuple[Person, ...]
    given: tuple[Given, ...]
    rejected: frozenset[tuple[str, str]]
    tested: tuple[Tested, ...]
    stands: frozenset[str]
    unfinished: str
    hours: int = 0
    reports: tuple[tuple[Person, float], ...] = ()

    @property
    def unsigned(self) -> bool:
        """Does nobody approve corrective actions?"""
        return self.unfinished == "unsigned"

    @property
    def refused(self) -> bool:
        """Are corrective actions refused instead of approved? So they are in the worlds of seeds below 0."""
        return self.seed < 0

    @property
    def finished(self) -> bool:
        """May every run come to its end?"""
        return not self.unfinished

    # -- the oracle -----------------------------------------------------------

    def descendants(self, root: str) -> set[str]:
        """The root and everything made from it, however indirectly."""
        found: set[str] = set()
        level = {root}
        while level:
            found |= level
            level = {m.lot for m in self.materials if set(m.inputs) & level} - found
        return found

    @property
    def confirmed(self) -> dict[str, list[str]]:
        """The roots with a deviation that quality confirms, with its tags."""
        real = {r.lot: [t for t in r.faulty if (r.lot, t) not in self.rejected] for r in self.roots}
        return {lot: tags for lot, tags in real.items() if tags}

    def exposed(self, root: str) -> set[tuple[str, str, str, str]]:
        """Every dispense that goes back to the root, or possibly does: site, pseudonym, lot, dispense.

        Of one from mixed packs the lot is left out: it depends on which of them was implicated first.
        """
        lots = self.descendants(root)
        named = [g for g in self.given if g.told != "nobody" and {g.lot, g.mixed} & lots]
        return {(g.person.site, g.person.pseudonym, "" if g.mixed else g.lot, g.id) for g in named}

    def investigated(self, lot: str) -> list[tuple[str, bool]]:
        """What the investigations of a lot found, and whether it was tested again within specification."""
        mine = [one for one in self.tested if one.lot == lot]
        good = [one.day for one in mine if one.value >= LEAST]
        outcome = "confirmed" if lot in self.stands else "laboratory_error"
        return [
            (outcome, any(day > one.day for day in good) and outcome != "confirmed")
            for one in mine
            if one.value < LEAST
        ]

    @property
    def puzzling(self) -> set[str]:
        """Orders that nobody ever explains."""
        return {"o0"} if self.unfinished == "pharmacy" else set()

    @property
    def mixed(self) -> set[str]:
        return {g.id for g in self.given if g.mixed}

    def became(self, id: str) -> str:
        """What became of a dispense in the end, as the journals name it."""
        names = {"returned": "RETURNED_UNOPENED", "opened": "RETURNED", "corrected": "CORRECTED"}
        return next(names.get(g.became, "") for g in self.given if g.id == id)


def tell(seed: int) -> Story:
    """The story of a seed."""
    rng = Random(f"story/{seed}")
    # Some worlds cannot end well: something stays unexplained, and must be said to be.
    unfinished = rng.choice(("", "", "", "", "", "", "pharmacy", "unknown", "unsigned"))
    roots = tuple(_root(rng, number) for number in range(rng.randint(1, 2)))
    materials = _materials(rng, [root.lot for root in roots])
    people = tuple(_person(rng, number, unfinished) for number in range(rng.randint(3, 8)))
    lots = [root.lot for root in roots] + [m.lot for m in materials] * 3
    given = tuple(_given(rng, number, people, lots, unfinished) for number in range(rng.randint(5, 16)))
    first = [(roots[0].lot, roots[0].faulty[0])]
    doubted = [(r.lot, tag) for r in roots for tag in r.faulty]
    rejected = frozenset(pair for pair in doubted if pair not in first and rng.random() < 0.3)
    started = tuple(m.lot for m in materials if rng.random() < 0.2)
    ran = sorted({*(root.lot for root in roots), *started})
    tested = tuple(one for lot in ran for one in _tested(Random(f"tested/{seed}/{lot}"), lot))
    stands = frozenset(lot for lot in ran if Random(f"stands/{seed}/{lot}").random() < 0.3)
    others, beside = _beside(Random(f"siblings/{seed}"), people)
    people, given = people + others, given + beside
    hours, reports = _followed(Random(f"follow-up/{seed}"), people)
    return Story(
        seed, roots, started, materials, people, given, rejected, tested, stands, unfinished, hours, reports
    )


def _tested(rng: Random, lot: str) -> list[Tested]:
    """A lot is not tested, or once, or is out of specification and mostly tested again."""
    values = rng.choice(((), (99.0,), (80.0, 98.0), (80.0, 99.0), (80.0,), (97.0, 80.0)))
    return [Tested(lot, f"t{number}", value, number - 18) for number, value in enumerate(values)]


def _followed(rng: Random, people: tuple[Person, ...]) -> tuple[int, tuple[tuple[Person, float], ...]]:
    """How patients are followed up, and what their hospitals report of them: near to the day at
    which they answer, or long before."""
    hours = rng.choice((0, 0, 20, 30, 80))
    reporting = [person for person in people if rng.random() < 0.3]
    return hours, tuple((person, rng.choice((0.5, -2.0, -20.0))) for person in reporting)


def _beside(rng: Random, people: tuple[Person, ...]) -> tuple[tuple[Person, ...], tuple[Given, ...]]:
    """A lot of the same product that nothing faulty went into, and who received it: people of their
    own, and some who may have received a faulty one as well."""
    lot = lot_key("maker", "gtin", GTIN, "S0")
    others = tuple(_person(rng, len(people) + number, "") for number in range(rng.randint(0, 4)))
    also = tuple(person for person in people if rng.random() < 0.3)
    given = tuple(
        Given(person, lot, f"s{n}", rng.choice(("both", "hospital")), False, rng.random() < 0.25)
        for n, person in enumerate(others + also)
    )
    return others, given


def _root(rng: Random, number: int) -> Root:
    faulty = rng.choice((TAGS[:1], TAGS[1:], TAGS)) if number == 0 else rng.choice(((), TAGS[:1], TAGS))
    return Root(f"{PRODUCT}/R{number}", faulty)


def _materials(rng: Random, roots: list[str]) -> tuple[Material, ...]:
    """Splits and merges, three levels deep; a lot's inputs may come in records of their own."""
    made: list[Material] = []
    above = roots
    for level in range(rng.randint(2, 3)):
        below = []
        for number in range(rng.randint(1, 3)):
            scheme = KIT if number == _KIT_AT else "gtin"
            lot = lot_key("maker", scheme, GTIN, f"L{level}{number}")
            inputs = tuple(sorted(rng.sample(above, rng.randint(1, min(2, len(above))))))
            apart = len(inputs) > 1 and rng.random() < 0.5
            for part in [(one,) for one in inputs] if apart else [inputs]:
                made.append(Material(lot, part, f"r{len(made)}", rng.random() < 0.2))
            below.append(lot)
        above = [*above, *below] if rng.random() < 0.3 else below
    return tuple(made)


def _person(rng: Random, number: int, unfinished: str) -> Person:
    minds: tuple[tuple[bool, ...], ...] = ((True,), (True,), (True,), (False,), (False, True), (True, False))
    consents = rng.choice(minds)
    if unfinished == "unknown" and number == 0:
        consents = ()
    answer = rng.choice((True, False, False, None))
    return Person(rng.choice(SITES), f"P{number}", consents, answer)


def _given(rng: Random, number: int, people: tuple[Person, ...], lots: list[str], unfinished: str) -> Given:
    told = rng.choice(("both",) * 6 + ("hospital", "piecemeal") * 2 + ("pharmacy", "nobody"))
    became = rng.choice(("",) * 8 + ("returned", "opened", "corrected"))
    if unfinished == "pharmacy" and number == 0:
        told, became = "pharmacy", ""
    if told not in ("both", "pharmacy", "hospital") and became == "corrected":
        became = ""
    person = people[0] if unfinished and number == 0 else rng.choice(people)
    lot = rng.choice(lots)
    mixed = rng.choice(lots) if told == "pharmacy" and rng.random() < 0.5 else ""
    return Given(
        person,
        lot,
        f"o{number}",
        told,
        rng.random() < 0.2,
        rng.random() < 0.25,
        became,
        mixed if mixed != lot else "",
    )
