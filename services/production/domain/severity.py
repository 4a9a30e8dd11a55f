"""What a deviation is proposed to be: the rule table of its product.

The rule of a tag names a severity. A critical process parameter (CPP) outside
its proven acceptable range (PAR; ICH Q8(R2)) is at least major, whatever the
rule says. A person classifies; a tag without a rule gets no proposal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from google.protobuf.message import Message

from pharmaloop.production.v1 import events_pb2 as events
from services.production.domain.equipment import is_ucum
from services.refusals import Malformed

_KNOWN = (events.SEVERITY_MINOR, events.SEVERITY_MAJOR, events.SEVERITY_CRITICAL)


@dataclass(frozen=True)
class Rules:
    """A product's rules; `table` keeps its SeverityRulesSet as it was."""

    product: str
    table: bytes

    def message(self) -> events.SeverityRulesSet:
        return events.SeverityRulesSet.FromString(self.table)


def decide_set(held: Rules | None, asked: events.SeverityRulesSet) -> list[Message]:
    """Set the rules of a product; nothing happens when nothing changed."""
    seen: set[str] = set()
    for index, rule in enumerate(asked.rules):
        path = f"rules[{index}]"
        if not rule.tag.strip():
            raise Malformed("REQUIRED", "name the tag", f"{path}.tag")
        if rule.tag in seen:
            raise Malformed("DUPLICATE_TAG", f"{rule.tag!r} has two rules", f"{path}.tag")
        seen.add(rule.tag)
        _check(rule, path)
    return [] if held and list(held.message().rules) == list(asked.rules) else [asked]


def _check(rule: events.SeverityRule, path: str) -> None:
    if rule.severity not in _KNOWN:
        raise Malformed("REQUIRED", "say minor, major or critical", f"{path}.severity")
    ranged = rule.HasField("low") or rule.HasField("high")
    if rule.critical_parameter and not ranged:
        said = "a critical parameter has a proven acceptable range; give low, high or both"
        raise Malformed("REQUIRED", said, f"{path}.low")
    for field in ("low", "high"):
        if not math.isfinite(getattr(rule, field)):
            raise Malformed("NOT_FINITE", f"the {field} end must be a finite number", f"{path}.{field}")
    if rule.HasField("low") and rule.HasField("high") and rule.low > rule.high:
        raise Malformed("OUT_OF_RANGE", "the range's low end lies above the high one", f"{path}.low")
    if ranged and not is_ucum(rule.unit):
        raise Malformed("NOT_UCUM", f"{rule.unit!r} is not a UCUM code", f"{path}.unit")


def propose(held: Rules | None, tag: str, unit: str, values: list[float]) -> events.Severity:
    """The severity proposed for a tag that left its golden run with these values, in this unit."""
    rules = held.message().rules if held else ()
    for rule in rules:
        if rule.tag == tag:
            left = rule.critical_parameter and _left(rule, unit, values)
            return max(rule.severity, events.SEVERITY_MAJOR) if left else rule.severity
    return events.SEVERITY_UNSPECIFIED


def _left(rule: events.SeverityRule, unit: str, values: list[float]) -> bool:
    """Did a value leave the range? A range in another unit proves nothing, and counts as left."""
    if unit != rule.unit:
        return True
    low = rule.low if rule.HasField("low") else -math.inf
    high = rule.high if rule.HasField("high") else math.inf
    return any(not low <= value <= high for value in values)


def evolve(held: Rules | None, event: Message) -> Rules:
    """The rules after their event."""
    assert isinstance(event, events.SeverityRulesSet)
    return Rules(event.product, event.SerializeToString(deterministic=True))
