"""The refusals of domains as the platform's errors: one table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from services.kit.errors import Invalid, Rejected, Unknown
from services.refusals import Absent, Malformed, Refusal

#: First match wins: subclasses stand before their base.
_ERRORS: tuple[tuple[type[Refusal], type[Rejected]], ...] = (
    (Malformed, Invalid),
    (Absent, Unknown),
    (Refusal, Rejected),
)


@contextmanager
def refusals(inside: str | Mapping[str, str] = "") -> Iterator[None]:
    """Inside, a refusal of the domain becomes the error that a caller is answered with.

    `inside` says where in the request the domain's fields stand: the field that it was given, or the place of
    each. Decorates a function, too.
    """
    try:
        yield
    except Refusal as refusal:
        error = next(error for cls, error in _ERRORS if isinstance(refusal, cls))
        raise error(refusal.reason, refusal.description, _placed(refusal.field, inside)) from refusal


def _placed(field: str, inside: str | Mapping[str, str]) -> str:
    if isinstance(inside, str):
        return f"{inside}.{field}" if inside else field
    return inside.get(field, field)
