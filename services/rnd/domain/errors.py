"""Why the domain says no, as data: reason, sentence, field.

    Refusal        a rule said no
     +- Malformed  the request itself breaks a rule, whatever the state
     +- Absent     what it names is not known here

The domain knows no transport; handlers and the API turn these into the
platform's own errors.
"""

from __future__ import annotations

import math


class Refusal(ValueError):
    """A rule said no. `reason` is for machines, `description` says rule and next step."""

    def __init__(self, reason: str, description: str, field: str) -> None:
        super().__init__(f"{reason}: {description}")
        self.reason = reason
        self.description = description
        self.field = field


class Malformed(Refusal):
    """The request breaks a rule of form."""


class Absent(Refusal):
    """The request names what is not known here."""


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
