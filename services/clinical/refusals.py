"""The domain's refusals as the platform's errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from services.clinical.domain.errors import Malformed
from services.kit.errors import Invalid


@contextmanager
def refusals(inside: str = "") -> Iterator[None]:
    """Inside, what the domain finds malformed becomes the error that a caller is answered with.

    `inside` is the field of the request that the domain was given. Decorates a function, too.
    """
    try:
        yield
    except Malformed as refusal:
        field = f"{inside}.{refusal.field}" if inside else refusal.field
        raise Invalid(refusal.reason, refusal.description, field) from refusal
