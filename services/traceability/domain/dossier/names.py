"""Names of enum values as a dossier prints them: also of those that a newer service sends."""

from __future__ import annotations

from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper


def name(enum: EnumTypeWrapper, value: int, prefix: str) -> str:
    """The value's name without the enum's prefix, in lower case; for one that is not known here,
    "unknown_" with its number; for 0, by which nothing is said, "unknown"."""
    if not value:
        return "unknown"
    known = enum.DESCRIPTOR.values_by_number.get(value)
    return known.name.removeprefix(prefix).lower() if known else f"unknown_{value}"
