"""Molecules, targets and products: registered once, each with where it comes from.

A registration is not changed: who says the same again changes nothing, who
says something else of the same id is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from google.protobuf.message import Message

from pharmaloop.rnd.v1 import events_pb2 as events
from services.refusals import Absent, Refusal
from services.rnd.domain.errors import named
from services.rnd.domain.molecules import smiles


@dataclass(frozen=True)
class Target:
    """A biological target; `registered` keeps its event as it was."""

    target: str
    registered: bytes

    def message(self) -> events.TargetRegistered:
        return events.TargetRegistered.FromString(self.registered)


@dataclass(frozen=True)
class Molecule:
    """A molecule; `structure_hash` is in hexadecimal, for one structure is registered once."""

    molecule: str
    target: str
    structure_hash: str
    registered: bytes

    def message(self) -> events.MoleculeRegistered:
        return events.MoleculeRegistered.FromString(self.registered)


@dataclass(frozen=True)
class Product:
    """A product with its molecule, target and indication."""

    product: str
    molecule: str
    target: str
    indication: str
    registered: bytes

    def message(self) -> events.ProductRegistered:
        return events.ProductRegistered.FromString(self.registered)


def target_evolve(held: Target | None, event: Message) -> Target:
    assert isinstance(event, events.TargetRegistered)
    return Target(event.target, event.SerializeToString(deterministic=True))


def molecule_evolve(held: Molecule | None, event: Message) -> Molecule:
    assert isinstance(event, events.MoleculeRegistered)
    kept = event.SerializeToString(deterministic=True)
    return Molecule(event.molecule, event.target, event.structure_hash.hex(), kept)


def product_evolve(held: Product | None, event: Message) -> Product:
    assert isinstance(event, events.ProductRegistered)
    kept = event.SerializeToString(deterministic=True)
    return Product(event.product, event.molecule, event.target, event.indication, kept)


def decide_target(held: Target | None, asked: events.TargetRegistered) -> list[Message]:
    for field in ("target", "name", "provenance"):
        named(getattr(asked, field), field)
    return _once(held.message() if held else None, asked, "target", ("name", "provenance"))


def decide_molecule(
    held: Molecule | None,
    asked: events.MoleculeRegistered,
    target: Target | None,
    alike: Mapping[str, Molecule],
) -> list[Message]:
    """`alike` are the registered molecules of the same structure, by id."""
    for field in ("molecule", "name", "provenance"):
        named(getattr(asked, field), field)
    if asked.target and target is None:
        raise _unknown("target", asked.target)
    said = ("name", "provenance", "target", "structure_hash")
    decided = _once(held.message() if held else None, asked, "molecule", said)
    others = sorted(alike.keys() - {asked.molecule})
    if decided and others:
        told = f"the structure is registered as {others[0]!r}; use that molecule"
        raise Refusal("KNOWN_STRUCTURE", told, "smiles")
    return decided


def decide_product(
    held: Product | None, asked: events.ProductRegistered, molecule: Molecule | None, target: Target | None
) -> list[Message]:
    for field in ("product", "name", "indication"):
        named(getattr(asked, field), field)
    if asked.molecule and molecule is None:
        raise _unknown("molecule", asked.molecule)
    if asked.target and target is None:
        raise _unknown("target", asked.target)
    said = ("name", "molecule", "target", "indication")
    return _once(held.message() if held else None, asked, "product", said)


def structure_hash(text: str) -> bytes:
    """SHA-256 of a structure, the same for every way to write it; with stereo marks, of its text, for two
    forms with marks may be two molecules. Raises Malformed for what is no SMILES of one molecule."""
    read = smiles.read(text)
    return hashlib.sha256((text if read.stereo else read.key).encode()).digest()


def _once(held: Message | None, asked: Message, what: str, fields: tuple[str, ...]) -> list[Message]:
    if held is None:
        return [asked]
    for field in fields:
        if getattr(held, field) != getattr(asked, field):
            told = f"the {what} is registered with another {field.replace('_', ' ')}; use that, or another id"
            raise Refusal("ALREADY_REGISTERED", told, field)
    return []


def _unknown(what: str, id: str) -> Absent:
    told = f"no {what} {id!r} is registered; register it with Register{what.title()} first"
    return Absent(f"UNKNOWN_{what.upper()}", told, what)
