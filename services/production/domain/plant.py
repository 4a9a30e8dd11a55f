"""A plant as research knows it: its public key, and its lines with what each makes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from hashlib import sha256

from google.protobuf.message import Message

from pharmaloop.production.v1 import events_pb2 as events
from services.production.domain.equipment import Equipment
from services.production.domain.record import given
from services.refusals import Absent, Malformed, Refusal

_LONGEST_NAME = 200
#: Numbers of a vessel that must be above 0; how they fit together is for the twin to say.
_POSITIVE = (
    "volume_m3",
    "liquid_m3",
    "tank_diameter_m",
    "impeller_diameter_m",
    "blade_width_m",
    "power_number",
    "stirrer_max_per_s",
    "power_max_w",
    "gas_max_m3_per_s",
    "kla_calibration",
)
#: What cannot be greater than what.
_FITS = (
    ("liquid_m3", "volume_m3"),
    ("impeller_diameter_m", "tank_diameter_m"),
    ("blade_width_m", "impeller_diameter_m"),
    ("stirrer_min_per_s", "stirrer_max_per_s"),
)


@dataclass(frozen=True)
class Line:
    """A line; `registered` keeps its LineRegistered as it was. Its vessel lies sealed in there."""

    line: str
    registered: bytes

    def message(self) -> events.LineRegistered:
        return events.LineRegistered.FromString(self.registered)


@dataclass(frozen=True)
class Plant:
    """A plant; `key` keeps its PlantKeyPublished, empty before. The lines stand in order of their names."""

    plant: str
    key: bytes = b""
    lines: tuple[Line, ...] = ()

    def line(self, name: str) -> Line | None:
        return next((held for held in self.lines if held.line == name), None)

    def making(self, product: str) -> list[events.LineRegistered]:
        """Its lines that make the product."""
        lines = [held.message() for held in self.lines]
        return [line for line in lines if product in line.products]


def line_version(line: events.LineRegistered) -> bytes:
    """What stands for a line as a set is adapted to it: its equipment and its vessel, which stays sealed as
    it is while nothing of it changes."""
    return sha256(line.equipment.encode() + b"\0" + line.detail.ciphertext).digest()


def check_line(plant: str, line: str, equipment: str, products: list[str]) -> None:
    """Malformed names what was left out; the products are checked for form by the caller."""
    for field, name in (("plant", plant), ("line", line), ("equipment", equipment)):
        given(name, field, f"name the {field}")
        if len(name) > _LONGEST_NAME:
            raise Malformed("TOO_LONG", f"at most {_LONGEST_NAME} characters", field)
    if not products:
        raise Malformed("REQUIRED", "name at least one product that the line makes", "products")


def check_detail(detail: events.LineDetail) -> None:
    """Malformed names the first number of the vessel that cannot be."""
    for name in _POSITIVE:
        value = getattr(detail, name)
        if not math.isfinite(value) or value <= 0:
            said = f"{name} must be above 0, not {value:g}; give it as it was measured"
            raise Malformed("OUT_OF_RANGE", said, f"detail.{name}")
    least = detail.stirrer_min_per_s
    if not math.isfinite(least) or least < 0:
        said = f"stirrer_min_per_s must be 0 or above, not {least:g}; give it as it was measured"
        raise Malformed("OUT_OF_RANGE", said, "detail.stirrer_min_per_s")
    if detail.impellers < 1:
        said = f"impellers must be 1 or more, not {detail.impellers}; say how many are on the shaft"
        raise Malformed("OUT_OF_RANGE", said, "detail.impellers")
    for less, more in _FITS:
        one, other = getattr(detail, less), getattr(detail, more)
        if one > other:
            said = f"{less} of {one:g} is greater than {more} of {other:g}; correct the one or the other"
            raise Malformed("OUT_OF_RANGE", said, f"detail.{less}")


def decide_register(
    held: Plant | None,
    asked: events.LineRegistered,
    key: events.PlantKeyPublished,
    equipment: Equipment | None,
) -> list[Message]:
    """Register a line or what changed of it, with the plant's key where it is the first one."""
    if equipment is None:
        said = f"no equipment {asked.equipment!r} is registered; register it first"
        raise Absent("UNKNOWN_EQUIPMENT", said, "equipment")
    if equipment.plant != asked.plant:
        said = f"{asked.equipment!r} stands in {equipment.plant!r}; name equipment of {asked.plant!r}"
        raise Refusal("WRONG_PLANT", said, "equipment")
    known = held.line(asked.line) if held else None
    changes = known is None or known.registered != asked.SerializeToString(deterministic=True)
    published = [] if held and held.key else [key]
    return [*published, *([asked] if changes else [])]


def evolve(held: Plant | None, event: Message) -> Plant:
    """The plant after one of its own events."""
    match event:
        case events.PlantKeyPublished():
            before = held or Plant(event.plant)
            return replace(before, key=event.SerializeToString(deterministic=True))
        case events.LineRegistered():
            before = held or Plant(event.plant)
            others = [line for line in before.lines if line.line != event.line]
            mine = Line(event.line, event.SerializeToString(deterministic=True))
            return replace(before, lines=tuple(sorted([*others, mine], key=lambda line: line.line)))
    raise TypeError(f"a plant does not fold {type(event).__name__}")
