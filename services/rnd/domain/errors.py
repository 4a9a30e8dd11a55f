"""Rules of form that many of research's requests share."""

from __future__ import annotations

import math

from services.refusals import Malformed


def out_of_range(rule: str, field: str) -> Malformed:
    """A number breaks the stated rule."""
    return Malformed("OUT_OF_RANGE", rule, field)


def positive(value: float, field: str) -> None:
    """Raises Malformed unless the number is finite and above 0."""
    if not (math.isfinite(value) and value > 0):
        raise out_of_range(f"{field} is a finite number above 0, this is {value}", field)


def fraction(value: float, field: str) -> None:
    """Raises Malformed unless the number lies between 0 and 1, without either."""
    if not 0 < value < 1:
        raise out_of_range(f"{field} is above 0 and below 1, this is {value}", field)


def named(value: str, field: str) -> None:
    """Raises Malformed for an empty name."""
    if not value.strip():
        raise Malformed("REQUIRED", f"name the {field.replace('_', ' ').rsplit('.', 1)[-1]}", field)
