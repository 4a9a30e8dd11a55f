"""Why the twin says no: every reason at once, each with field, rule and next step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from services.refusals import Malformed

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Reason:
    """One rule that is broken.

    `code` is for machines, `field` names what was given (`target.impeller_diameter`), `rule` says what
    is wrong with it and `next_step` what to do about it.
    """

    code: str
    field: str
    rule: str
    next_step: str

    @property
    def statement(self) -> str:
        """Rule and next step, in a sentence."""
        return f"{self.rule}; {self.next_step}"

    def __str__(self) -> str:
        return f"{self.field}: {self.statement}"


class Refused(Malformed):
    """What was asked of the twin breaks rules: `reasons` holds each of them, the first names the error."""

    def __init__(self, reasons: Iterable[Reason]) -> None:
        self.reasons = tuple(reasons)
        first = self.reasons[0]
        super().__init__(first.code, "; ".join(str(reason) for reason in self.reasons), first.field)


def refuse(reasons: Iterable[Reason]) -> None:
    """Raise Refused with all the reasons, where there are any."""
    found = tuple(reasons)
    if found:
        raise Refused(found)


def number(field: str, value: float) -> list[Reason]:
    """Not a finite number: NaN and infinity break every rule that compares."""
    if math.isfinite(value):
        return []
    return [Reason("NOT_A_NUMBER", field, f"{value} is not a finite number", "give the number")]


def inside(value: float, low: float, high: float) -> bool:
    """In a closed range, whose ends stay inside when they are scaled and rounded; NaN never is."""
    return low - _ROUNDING * abs(low) <= value <= high + _ROUNDING * abs(high)


def within(
    field: str, value: float, low: float, high: float, unit: str, *, code: str, step: str
) -> list[Reason]:
    """Outside a closed range, or no number at all. The ends of the range are inside."""
    wrong = number(field, value)
    if wrong or inside(value, low, high):
        return wrong
    return [Reason(code, field, f"{value:.6g} {unit} is outside {low:.6g} to {high:.6g} {unit}", step)]


def positive(field: str, value: float, unit: str) -> list[Reason]:
    """Not above nought."""
    wrong = number(field, value)
    if wrong or value > 0:
        return wrong
    return [Reason("NOT_POSITIVE", field, f"{value:.6g} {unit} is not above 0", "give a positive value")]


def not_negative(field: str, value: float, unit: str) -> list[Reason]:
    """Below nought."""
    wrong = number(field, value)
    if wrong or value >= 0:
        return wrong
    return [Reason("NEGATIVE", field, f"{value:.6g} {unit} is below 0", "give 0 or more")]
