"""Sentences as codes and values, for readers of other languages than English: how they are made and kept.

The contract's own message, with nothing of any service: domain code may import this, as it does the contract.
"""

from __future__ import annotations

from collections.abc import Iterable

from pharmaloop.common.v1 import types_pb2 as common


def saying(code: str, **values: str | float | common.Saying) -> common.Saying:
    """One sentence: a text stays as written, a number is written as the reader's language does, and a part
    is said by itself in its place."""
    found = common.Saying(code=code)
    for name, value in values.items():
        if isinstance(value, str):
            found.arguments.add(name=name, text=value)
        elif isinstance(value, common.Saying):
            found.arguments.add(name=name, phrase=value)
        else:
            found.arguments.add(name=name, number=value)
    return found


def kept(sayings: Iterable[common.Saying]) -> tuple[bytes, ...]:
    """As a state or a row keeps them."""
    return tuple(one.SerializeToString(deterministic=True) for one in sayings)


def told(kept: Iterable[bytes]) -> list[common.Saying]:
    """As they were told."""
    return [common.Saying.FromString(one) for one in kept]
