"""A state that a list is asked for: callers number it, views store its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.kit.errors import Invalid


def stored(states: Mapping[str, Any], value: int) -> str:
    """The stored name of a state; empty for all of them. Invalid for a number that is none of `states`."""
    if not value:
        return ""
    for known, number in states.items():
        if number == value:
            return known
    raise Invalid("OUT_OF_RANGE", f"{value} is not a state", "state")
