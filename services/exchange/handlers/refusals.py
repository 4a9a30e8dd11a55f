"""The domain's refusals as the platform's errors: one table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from services.exchange.domain.errors import Absent, Malformed, Refusal
from services.kit.errors import Invalid, Rejected, Unknown

#: First match wins: subclasses stand before their base.
_ERRORS: tuple[tuple[type[Refusal], type[Rejected]], ...] = (
    (Malformed, Invalid),
    (Absent, Unknown),
    (Refusal, Rejected),
)


@contextmanager
def refusals() -> Iterator[None]:
    """Inside, a refusal of the domain becomes the error that a caller is answered with.

    Decorates a function, too.
    """
    try:
        yield
    except Refusal as refusal:
        error = next(error for cls, error in _ERRORS if isinstance(refusal, cls))
        raise error(refusal.reason, refusal.description, refusal.field) from refusal
