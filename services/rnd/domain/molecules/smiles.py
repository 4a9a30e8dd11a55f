"""Structures in SMILES (OpenSMILES 1.0), read without a chemistry library.

What is checked: every character has its meaning; brackets and branches are balanced; every ring bond is
closed, once, between two different atoms, with one bond order; elements are allowed ones; atoms outside
brackets have no more bonds than their valence. Aromaticity is believed as written.

Two structures are the same when their atoms can be matched with element, charge, isotope, hydrogens and
neighbours. Bond orders follow from those, so the aromatic and the Kekule form of a ring are the same. Stereo
marks are not compared, only told (`stereo`): of two forms with marks, equal text alone is known to be equal.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from services.refusals import Malformed

#: Elements that drugs, contrast agents and radiopharmaceuticals are made of.
_NAMES = """
    H Li B C N O F Na Mg Al Si P S Cl K Ca Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Sr Y Zr Tc Ru Rh Pd Ag
    In Sn Sb Te I Xe Ba La Sm Gd Tb Ho Yb Lu Re Os Ir Pt Au Hg Tl Pb Bi Ra Ac
"""
ALLOWED = frozenset(_NAMES.split())
#: Valences of atoms outside brackets; hydrogens fill up to the lowest that holds the bonds.
VALENCES = {
    "B": (3,),
    "C": (4,),
    "N": (3, 5),
    "O": (2,),
    "P": (3, 5),
    "S": (2, 4, 6),
    "F": (1,),
    "Cl": (1,),
    "Br": (1,),
    "I": (1,),
}
AROMATIC = frozenset({"b", "c", "n", "o", "p", "s", "se", "as", "te"})
LONGEST = 4_000
_ORDERS = {"-": 1, "=": 2, "#": 3, "$": 4, ":": 1, "/": 1, "\\": 1, "": 1}
_TOKEN = re.compile(r"(Cl|Br|[BCNOPSFI]|[bcnops])|(\[[^\[\]]*\])|([-=#$:/\\])|(\d|%\d\d)|([().])")
_BRACKET = re.compile(
    r"\[(?P<isotope>\d{1,3})?(?P<symbol>[A-Z][a-z]?|se|as|te|[bcnops])(?P<chiral>@(?:@|(?:TH|AL|SP|TB|OH)\d{1,2})?)?"
    r"(?P<hydrogens>H\d?)?(?P<charge>\+\+|--|[+-]\d{0,2})?(?::\d+)?\]"
)


@dataclass(frozen=True)
class Atom:
    """One heavy atom, or a hydrogen written as an atom; `hydrogens` are those it carries besides."""

    element: str
    aromatic: bool
    charge: int
    isotope: int
    hydrogens: int


@dataclass(frozen=True)
class Structure:
    """A molecule as read. `neighbours[i]` are the atoms bound to atom i; `key` is the same for two
    structures that are the same (32 hex digits), and all but always different for others."""

    smiles: str
    atoms: tuple[Atom, ...]
    neighbours: tuple[tuple[int, ...], ...]
    stereo: bool
    formula: str
    key: str


def read(smiles: str, field: str = "smiles") -> Structure:
    """The structure of one molecule. Raises Malformed with what is wrong and where: SYNTAX, ELEMENT, VALENCE,
    EMPTY, TOO_LONG, or MIXTURE for several molecules in one text."""
    if not smiles:
        raise Malformed("EMPTY", "state the structure as SMILES, for example CC(=O)Oc1ccccc1C(=O)O", field)
    if len(smiles) > LONGEST:
        raise Malformed("TOO_LONG", f"a structure has at most {LONGEST:,} characters", field)
    reader = _Reader(smiles, field)
    reader.read()
    atoms = tuple(reader.filled(number) for number in range(len(reader.atoms)))
    bound = [tuple(sorted(bonds)) for bonds in reader.bonds]
    if _reached(bound) < len(atoms):
        raise Malformed("MIXTURE", "a molecule is one connected structure, this holds several", field)
    colours = _colours(atoms, bound)
    digest = hashlib.sha256(repr(sorted(colours)).encode()).hexdigest()[:32]
    return Structure(smiles, atoms, tuple(bound), reader.stereo, _formula(atoms), digest)


def same(one: Structure, other: Structure) -> bool:
    """Whether the two are the same molecule, stereo marks left aside: an exact match of the graphs."""
    if one.key != other.key or one.formula != other.formula:
        return False
    left, right = _colours(one.atoms, one.neighbours), _colours(other.atoms, other.neighbours)
    places = defaultdict(list)
    for number, colour in enumerate(right):
        places[colour].append(number)
    # Atoms in the order of a walk, so that each but the first has a neighbour that is matched already.
    order = _walk(one.neighbours)
    matched: dict[int, int] = {}
    taken: set[int] = set()

    def fits(atom: int, at: int) -> bool:
        known = [matched[to] for to in one.neighbours[atom] if to in matched]
        return (
            at not in taken
            and sum(to in taken for to in other.neighbours[at]) == len(known)
            and all(to in other.neighbours[at] for to in known)
        )

    # A stack of trials instead of recursion: a structure may have more atoms than Python has frames.
    trials = [iter(places[left[order[0]]])]
    while trials:
        atom = order[len(trials) - 1]
        if atom in matched:
            taken.discard(matched.pop(atom))
        at = next((place for place in trials[-1] if fits(atom, place)), None)
        if at is None:
            trials.pop()
            continue
        matched[atom] = at
        taken.add(at)
        if len(trials) == len(order):
            return True
        trials.append(iter(places[left[order[len(trials)]]]))
    return False


@dataclass
class _Reader:
    """Reads from left to right; holds the atom to bind to, the open branches and the open rings."""

    smiles: str
    where: str
    atoms: list[Atom] = field(default_factory=list)
    bare: list[bool] = field(default_factory=list)  # outside brackets: hydrogens are filled up
    bonds: list[dict[int, int]] = field(default_factory=list)
    stereo: bool = False
    last: int | None = None
    bond: str = ""
    branches: list[int] = field(default_factory=list)
    rings: dict[int, tuple[int, str]] = field(default_factory=dict)
    at: int = 0

    def wrong(self, said: str, reason: str = "SYNTAX") -> Malformed:
        return Malformed(reason, f"{said}, at character {self.at + 1} of {self.smiles[:80]!r}", self.where)

    def read(self) -> None:
        while self.at < len(self.smiles):
            token = _TOKEN.match(self.smiles, self.at)
            if token is None:
                shown = self.smiles[self.at]
                raise self.wrong("the bracket is not closed" if shown == "[" else f"{shown!r} has no meaning")
            plain, bracket, bond, ring, mark = token.groups()
            if plain:
                self._atom(Atom(plain.capitalize(), plain.islower(), 0, 0, 0), bare=True)
            elif bracket:
                self._atom(self._bracket(bracket), bare=False)
            elif bond:
                self._bond(bond)
            elif ring:
                self._ring(int(ring.lstrip("%")))
            else:
                self._mark(mark)
            self.at = token.end()
        if self.bond or self.last is None:
            raise self.wrong("the structure ends where an atom is due")
        if self.branches:
            raise self.wrong("a branch is not closed; add )")
        if self.rings:
            raise self.wrong(f"ring bond {min(self.rings)} is not closed; repeat its number at the other end")

    def _atom(self, atom: Atom, bare: bool) -> None:
        if atom.element not in ALLOWED:
            raise self.wrong(f"element {atom.element} is not allowed in a molecule", "ELEMENT")
        self.atoms.append(atom)
        self.bare.append(bare)
        self.bonds.append({})
        number = len(self.atoms) - 1
        if self.last is not None:
            self._bind(self.last, number, self.bond)
        self.last, self.bond = number, ""

    def _bracket(self, text: str) -> Atom:
        found = _BRACKET.fullmatch(text)
        if found is None:
            raise self.wrong(f"{text} is no atom; write isotope, element, chirality, hydrogens, charge")
        symbol, hydrogens, charge = found["symbol"], found["hydrogens"] or "", found["charge"] or ""
        self.stereo |= bool(found["chiral"])
        size = int(charge[1:]) if charge[1:].isdigit() else len(charge)
        return Atom(
            element=symbol.capitalize(),
            aromatic=symbol in AROMATIC,
            charge=-size if charge.startswith("-") else size,
            isotope=int(found["isotope"] or 0),
            hydrogens=int(hydrogens[1:] or 1) if hydrogens else 0,
        )

    def _bond(self, bond: str) -> None:
        if self.last is None or self.bond:
            raise self.wrong("a bond stands between two atoms")
        self.stereo |= bond in "/\\"
        self.bond = bond

    def _ring(self, number: int) -> None:
        if self.last is None:
            raise self.wrong("a ring bond follows an atom")
        if number not in self.rings:
            self.rings[number] = (self.last, self.bond)
        else:
            begun, bond = self.rings.pop(number)
            if bond and self.bond and _ORDERS[bond] != _ORDERS[self.bond]:
                raise self.wrong(f"ring bond {number} has two bond orders")
            self._bind(begun, self.last, bond or self.bond)
        self.bond = ""

    def _mark(self, mark: str) -> None:
        before = self.smiles[self.at - 1] if self.at else ""
        if mark == "(":
            if self.last is None or self.bond or before == "(":
                raise self.wrong("a branch follows an atom")
            self.branches.append(self.last)
        elif mark == ")":
            if not self.branches:
                raise self.wrong("this ) closes no branch")
            if self.bond or before == "(":
                raise self.wrong("a branch ends with an atom")
            self.last = self.branches.pop()
        else:
            if self.last is None or self.bond or self.branches:
                raise self.wrong("a dot stands between two structures")
            self.last = None

    def _bind(self, one: int, other: int, bond: str) -> None:
        if one == other:
            raise self.wrong("an atom is not bound to itself")
        if other in self.bonds[one]:
            raise self.wrong("two atoms are bound once")
        self.bonds[one][other] = self.bonds[other][one] = _ORDERS[bond]

    def filled(self, number: int) -> Atom:
        """The atom with the hydrogens that it does not write."""
        atom, bonds = self.atoms[number], sum(self.bonds[number].values())
        if not self.bare[number]:
            return atom
        if atom.aromatic:
            # The ring takes one more order; carbon alone carries hydrogens that are not written.
            spare = VALENCES[atom.element][0] - bonds - 1 if atom.element == "C" else 0
            if bonds > VALENCES[atom.element][-1]:
                raise self.wrong(f"aromatic {atom.element} has {bonds} bonds", "VALENCE")
            return Atom(atom.element, True, 0, 0, max(spare, 0))
        valence = next((one for one in VALENCES[atom.element] if one >= bonds), None)
        if valence is None:
            most = VALENCES[atom.element][-1]
            said = f"atom {number + 1}, {atom.element}, has bonds of order {bonds} in all, {most} at most"
            raise Malformed("VALENCE", f"{said}; write its charge in brackets if it has one", self.where)
        return Atom(atom.element, False, 0, 0, valence - bonds)


def _colours(atoms: Sequence[Atom], bound: Sequence[Sequence[int]]) -> list[str]:
    """A colour of each atom that depends on the structure only: element, charge, isotope, hydrogens and the
    smallest rings of its bonds, refined by the colours around it until nothing more is told apart."""
    rings = _ring_sizes(bound)
    colours = [
        _short((atom.element, atom.charge, atom.isotope, atom.hydrogens, sorted(rings[n])))
        for n, atom in enumerate(atoms)
    ]
    apart = 0
    while len(set(colours)) > apart:
        apart = len(set(colours))
        colours = [
            _short((colour, sorted(colours[to] for to in bound[n]))) for n, colour in enumerate(colours)
        ]
    return colours


def _short(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]


def _ring_sizes(bound: Sequence[Sequence[int]]) -> list[list[int]]:
    """For each atom, the size of the smallest ring through each of its bonds; 0 for a bond in none."""
    sizes: list[list[int]] = [[] for _ in bound]
    for one, others in enumerate(bound):
        for other in others:
            if other > one:
                size = _ring_through(bound, one, other)
                sizes[one].append(size)
                sizes[other].append(size)
    return sizes


def _ring_through(bound: Sequence[Sequence[int]], one: int, other: int) -> int:
    """The atoms of the smallest ring that holds the bond, by the shortest way around it."""
    steps, queue = {one: 0}, deque([one])
    while queue:
        atom = queue.popleft()
        for to in bound[atom]:
            if to in steps or (atom, to) == (one, other):
                continue
            if to == other:
                return steps[atom] + 2
            steps[to] = steps[atom] + 1
            queue.append(to)
    return 0


def _walk(bound: Sequence[Sequence[int]]) -> list[int]:
    order, seen, queue = [], {0}, deque([0])
    while queue:
        atom = queue.popleft()
        order.append(atom)
        for to in bound[atom]:
            if to not in seen:
                seen.add(to)
                queue.append(to)
    return order


def _reached(bound: Sequence[Sequence[int]]) -> int:
    """How many atoms are connected with the first."""
    return len(_walk(bound))


def _formula(atoms: Sequence[Atom]) -> str:
    """In the order of Hill: carbon, hydrogen, then by name; charge at the end."""
    counts: Counter[str] = Counter()
    for atom in atoms:
        counts[atom.element] += 1
        counts["H"] += atom.hydrogens
    first = [name for name in ("C", "H") if "C" in counts and counts[name]]
    names = [*first, *sorted(name for name in counts if counts[name] and name not in first)]
    charge = sum(atom.charge for atom in atoms)
    sign = f"{'+' if charge > 0 else '-'}{abs(charge) if abs(charge) > 1 else ''}" if charge else ""
    return "".join(f"{name}{counts[name] if counts[name] > 1 else ''}" for name in names) + sign
