"""What may be registered: molecules, targets, products.

A molecule has one id and one structure, and comes from somewhere. A product names its molecule, its target
and its indication, all of them registered before. What is registered is not overwritten: a
repetition with the same content is answered with what is held, one with other content is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from services.rnd.domain.errors import Absent, Malformed, Refusal, named
from services.rnd.domain.molecules import smiles
from services.rnd.domain.molecules.smiles import Structure

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:\-]{0,63}")

T = TypeVar("T")


@dataclass(frozen=True)
class Provenance:
    """Where an entry comes from: its source with version (molsets 0.3.1), the row or id there, and the
    hash of what was read, if known."""

    source: str
    record: str = ""
    content_hash: str = ""


@dataclass(frozen=True)
class Molecule:
    """A registered molecule. `canonical` is the canonical SMILES, empty where none was computed; `key` and
    `formula` as in `smiles.Structure`."""

    molecule: str
    smiles: str
    canonical: str
    key: str
    formula: str
    stereo: bool
    name: str
    provenance: Provenance


@dataclass(frozen=True)
class Target:
    """What a molecule acts on: a gene symbol (VKORC1), a name, the organism."""

    target: str
    name: str
    organism: str
    provenance: Provenance


@dataclass(frozen=True)
class Product:
    """A molecule for a target in an indication, as production and clinical use name it."""

    product: str
    name: str
    molecule: str
    target: str
    indication: str


def molecule(
    ident: str,
    structure: str,
    provenance: Provenance,
    *,
    name: str = "",
    held: Molecule | None = None,
    alike: Sequence[Molecule] = (),
    canoniser: Callable[[str], str] | None = None,
) -> Molecule:
    """A molecule to register. `held` is what has this id already; `alike` are those with the same `key`
    (ask with `key_of`). Raises Malformed for what breaks a form, Refusal for a duplicate."""
    _check_id(ident, "molecule")
    named(provenance.source, "provenance.source")
    read = smiles.read(structure.strip())
    canonical = canoniser(read.smiles) if canoniser else ""
    found = Molecule(ident, read.smiles, canonical, read.key, read.formula, read.stereo, name, provenance)
    if held is not None:
        if replace(held, canonical=canonical) == found:
            return held
        said = f"{ident} is registered with {held.smiles}, from {held.provenance.source}; choose another id"
        raise Refusal("ALREADY_EXISTS", said, "molecule")
    for other in alike:
        if other.molecule != ident and _same(found, read, other):
            said = f"this structure is registered as {other.molecule}; use that id"
            raise Refusal("DUPLICATE", said, "smiles")
    return found


def key_of(structure: str) -> str:
    """The key under which molecules of the same structure are found. Raises Malformed."""
    return smiles.read(structure.strip()).key


def target(
    ident: str, name: str, organism: str, provenance: Provenance, *, held: Target | None = None
) -> Target:
    """A target to register. Raises Malformed, or Refusal where the id is held with other content."""
    _check_id(ident, "target")
    named(name, "name")
    named(organism, "organism")
    named(provenance.source, "provenance.source")
    found = Target(ident, name, organism, provenance)
    return _kept(found, held, ident, "target")


def product(
    wanted: Product,
    *,
    molecule: Molecule | None,
    target: Target | None,
    held: Product | None = None,
    others: Iterable[Product] = (),
) -> Product:
    """A product to register. `molecule` and `target` are what its links lead to, None where that is not
    registered; `others` are products of the same molecule. Raises Malformed, Absent for a link that leads
    nowhere, Refusal for a product that is there already."""
    _check_id(wanted.product, "product")
    named(wanted.name, "name")
    named(wanted.indication, "indication")
    for field, ident, link in (("molecule", wanted.molecule, molecule), ("target", wanted.target, target)):
        _check_id(ident, field)
        if link is None:
            raise Absent("NOT_FOUND", f"{field} {ident} is not registered; register it first", field)
    if molecule is not None and molecule.molecule != wanted.molecule:
        raise Malformed("MISMATCH", f"{molecule.molecule} was looked up for {wanted.molecule}", "molecule")
    if target is not None and target.target != wanted.target:
        raise Malformed("MISMATCH", f"{target.target} was looked up for {wanted.target}", "target")
    found = _kept(wanted, held, wanted.product, "product")
    for other in others:
        links = (other.molecule, other.target, _folded(other.indication))
        ours = (wanted.molecule, wanted.target, _folded(wanted.indication))
        if other.product != wanted.product and links == ours:
            said = f"{other.product} has this molecule, target and indication; use that id"
            raise Refusal("DUPLICATE", said, "product")
    return found


@dataclass(frozen=True)
class Row:
    """A molecule of a batch."""

    molecule: str
    smiles: str
    name: str = ""


@dataclass(frozen=True)
class Batch:
    """What became of a batch: the molecules to register, in order, and the refusals by row number."""

    accepted: tuple[Molecule, ...]
    refused: Mapping[int, Refusal]


def batch(
    rows: Sequence[Row],
    provenance: Provenance,
    *,
    held: Mapping[str, Molecule],
    by_key: Callable[[str], Sequence[Molecule]] = lambda _: (),
    canoniser: Callable[[str], str] | None = None,
) -> Batch:
    """Each row by itself: one that is refused leaves the others as they are. A row is also compared with
    those before it. `held` are the registered molecules by id, `by_key` finds them by structure."""
    accepted: dict[str, Molecule] = {}
    keys: dict[str, list[Molecule]] = {}
    refused: dict[int, Refusal] = {}
    for number, row in enumerate(rows):
        try:
            key = key_of(row.smiles)
            found = molecule(
                row.molecule,
                row.smiles,
                replace(provenance, record=provenance.record or str(number + 1)),
                name=row.name,
                held=accepted.get(row.molecule) or held.get(row.molecule),
                alike=[*by_key(key), *keys.get(key, ())],
                canoniser=canoniser,
            )
        except Refusal as refusal:
            refused[number] = refusal
            continue
        if row.molecule not in held and row.molecule not in accepted:
            accepted[found.molecule] = found
            keys.setdefault(found.key, []).append(found)
    return Batch(tuple(accepted.values()), refused)


def _same(found: Molecule, read: Structure, other: Molecule) -> bool:
    """Whether two molecules are one. With canonical forms of both, those decide, stereo included; without,
    two graphs that match, and where either has stereo marks only the same text."""
    if found.canonical and other.canonical:
        return found.canonical == other.canonical
    if found.smiles == other.smiles:
        return True
    if found.stereo or other.stereo:
        return False
    return smiles.same(read, smiles.read(other.smiles))


def _kept(found: T, held: T | None, ident: str, field: str) -> T:
    if held is not None and held != found:
        said = f"{field} {ident} is registered with other content; choose another id"
        raise Refusal("ALREADY_EXISTS", said, field)
    return found


def _check_id(value: str, field: str) -> None:
    if not _ID.fullmatch(value):
        said = (
            f"an id has 1 to 64 letters, digits and . _ : -, and begins with a letter or digit; not {value!r}"
        )
        raise Malformed("MALFORMED", said, field)


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())
