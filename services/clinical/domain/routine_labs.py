"""Laboratory values of the hospital's routine, kept sealed by patient and test."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Result:
    """A result. `record` is the fact's id, `at` when the sample was taken (ISO, UTC), `sealed` a serialised
    Sealed of a LabResult."""

    record: str
    at: str
    sealed: bytes


@dataclass(frozen=True)
class RoutineLabs:
    """Every result of a patient by one test (LOINC code), by time."""

    pseudonym: str
    code: str
    results: tuple[Result, ...] = ()


def with_result(held: RoutineLabs, result: Result) -> RoutineLabs:
    """With one result more; one that is there already changes nothing."""
    if any(known.record == result.record for known in held.results):
        return held
    results = sorted((*held.results, result), key=lambda one: (one.at, one.record))
    return replace(held, results=tuple(results))
