"""Equipment and its tags: what a plant may send readings of, and in which unit.

A tag keeps its unit for ever: a model learnt in one unit must never judge
values in another. Units are UCUM codes, checked for form.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from google.protobuf.message import Message

from pharmaloop.production.v1 import events_pb2 as events
from services.refusals import Malformed, Refusal

#: Form of a UCUM code: atoms ("Cel", "m[H2O]", "10*3", "{run}") with exponents, joined by "." and "/".
_NAME = r"(?:[A-Za-z%'\"_]|\[[^\[\]\s]+\])+"
_ATOM = rf"(?:(?:10[*^]|\d+|{_NAME})(?:[+-]?\d+)?(?:\{{[!-z|~]*\}})?|\{{[!-z|~]*\}})"
_TERM = rf"(?:{_ATOM}|\({_ATOM}(?:[./]{_ATOM})*\))"
_UCUM = re.compile(rf"/?{_TERM}(?:[./]{_TERM})*")


@dataclass(frozen=True)
class Tag:
    """A tag, its UCUM unit, and whether it is a set-point: recorded, not monitored."""

    name: str
    unit: str
    set_point: bool = False


@dataclass(frozen=True)
class Equipment:
    """A piece of equipment as it was last registered."""

    equipment: str
    plant: str
    tags: tuple[Tag, ...]

    def tag(self, name: str) -> Tag | None:
        return next((tag for tag in self.tags if tag.name == name), None)


def decide_register(held: Equipment | None, asked: events.EquipmentRegistered) -> list[Message]:
    """Register equipment or its changed tags; nothing happens when nothing changed."""
    _check(asked)
    for index, tag in enumerate(asked.tags):
        before = held.tag(tag.name) if held else None
        if before is not None and before.unit != tag.unit:
            said = f"{tag.name!r} is registered in {before.unit!r}; a tag keeps its unit: use another name"
            raise Refusal("UNIT_CHANGED", said, f"tags[{index}].unit")
    return [] if evolve(None, asked) == held else [asked]


def _check(asked: events.EquipmentRegistered) -> None:
    for field in ("equipment", "plant"):
        if not getattr(asked, field).strip():
            raise Malformed("REQUIRED", f"name the {field}", field)
    if not asked.tags:
        raise Malformed("REQUIRED", "name at least one tag", "tags")
    seen: set[str] = set()
    for index, tag in enumerate(asked.tags):
        path = f"tags[{index}]"
        if not tag.name.strip():
            raise Malformed("REQUIRED", "name the tag", f"{path}.name")
        if tag.name in seen:
            raise Malformed("DUPLICATE_TAG", f"{tag.name!r} is named twice", f"{path}.name")
        if not is_ucum(tag.unit):
            said = f"{tag.unit!r} is not a UCUM code; write for example 'Cel', 'mbar', '%' or '1'"
            raise Malformed("NOT_UCUM", said, f"{path}.unit")
        seen.add(tag.name)


def is_ucum(unit: str) -> bool:
    """Has the text the form of a UCUM code?"""
    return len(unit) <= 64 and _UCUM.fullmatch(unit) is not None


def evolve(held: Equipment | None, event: Message) -> Equipment:
    """The equipment after its event."""
    assert isinstance(event, events.EquipmentRegistered)
    tags = tuple(Tag(tag.name, tag.unit, tag.set_point) for tag in event.tags)
    return Equipment(event.equipment, event.plant, tags)
