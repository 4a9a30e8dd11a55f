"""The domain's refusals as the platform's errors: one table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from services.kit.errors import Invalid, Rejected, Unknown
from services.rnd.domain.errors import Absent, Malformed, Refusal

#: First match wins: subclasses stand before their base.
_ERRORS: tuple[tuple[type[Refusal], type[Rejected]], ...] = (
    (Malformed, Invalid),
    (Absent, Unknown),
    (Refusal, Rejected),
)


@contextmanager
def refusals(inside: Mapping[str, str] | None = None) -> Iterator[None]:
    """Inside, a refusal of the domain becomes the error that a caller is answered with.

    `inside` says where in the request a field of the domain stands. Decorates a function, too.
    """
    try:
        yield
    except Refusal as refusal:
        error = next(error for cls, error in _ERRORS if isinstance(refusal, cls))
        field = (inside or {}).get(refusal.field, refusal.field)
        raise error(refusal.reason, refusal.description, field) from refusal
