"""What the developer's people set out to do: names that actors and truth share.

An actor may know what it asks; how it must end stands in `truth`.
"""

from __future__ import annotations

from services.kit.ids import derived_id

BAND, GENOTYPE, MARKETING = "warm-band", "genotype", "marketing"
#: Requests that the exchange refuses: name and rule.
WRONG_REQUESTS = (
    ("no-purpose", "REQUIRED"),
    ("two-sites", "TOO_FEW_SITES"),
    ("no-ethics", "REQUIRED"),
    ("band-upside-down", "OUT_OF_RANGE"),
)
_SET = "anticoagulant"


def set_name(series: str) -> str:
    """The parameter set of the medicine's process."""
    return f"{_SET}-{series}" if series else _SET


def misfit_of(name: str) -> str:
    """The set that goes to a plant which cannot make it."""
    return f"{name}-misfit"


def mistake_of(name: str, mistake: str) -> str:
    """The set that a wrong draft would be of."""
    return f"{name}-{mistake}"


def study_id(seed: int, name: str) -> str:
    """The id of the world's study of this name."""
    return derived_id("world-study", str(seed), name)
