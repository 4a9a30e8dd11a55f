"""What a corrective action does to a limit, and why an estimate is left out, in words."""

from __future__ import annotations

#: Why the limit stays, by the contract's LimitKept without its prefix, in lower case.
_KEPT = {
    "nobody_followed": "nobody was followed up",
    "withheld": "all numbers are withheld, for a group is below 10",
    "no_answers": "nobody answered",
    "no_complaints": "no complaint among the released answers",
    "too_few": "too small a share had a complaint",
    "narrowest": "a narrower one would raise too many false alarms",
}
_REASONS = {
    "WITHHELD": "withheld: a group is below 10",
    "NO_CASES": "no cases",
    "NO_COMPARATOR_CASES": "no cases among the comparators",
    "NO_EXPOSED_CASES": "no cases among the exposed",
    "NO_PERSON_TIME": "no follow-up time of both groups to compare",
}


def change(before: float, after: float, kept: str = "") -> str:
    """How a limit moves, or that it stays and why; `kept` as `_KEPT` has it, or nothing."""
    if after < before:
        return f"{before:.2f} -> {after:.2f} SD"
    why = _KEPT.get(kept, "")
    return f"stays at {after:.2f} SD: {why}" if why else f"stays at {after:.2f} SD"


def lacking(reason: str) -> str:
    """Why an estimate, or its interval, is not given; a reason that is not known here as it is named."""
    return _REASONS.get(reason, reason)
