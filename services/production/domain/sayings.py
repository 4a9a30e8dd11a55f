"""Sentences that a plant makes, as codes and values, for readers of other languages than English."""

from __future__ import annotations

from collections.abc import Iterable

from pharmaloop.common.v1 import types_pb2 as common


def saying(code: str, **values: str | float) -> common.Saying:
    """One sentence: a text stays as written, a number is written as the reader's language does."""
    return common.Saying(
        code=code,
        arguments=[
            common.SayingValue(name=name, text=value)
            if isinstance(value, str)
            else common.SayingValue(name=name, number=value)
            for name, value in values.items()
        ],
    )


def kept(sayings: Iterable[common.Saying]) -> tuple[bytes, ...]:
    """As a state keeps them."""
    return tuple(one.SerializeToString(deterministic=True) for one in sayings)


def told(kept: Iterable[bytes]) -> list[common.Saying]:
    """As they were told."""
    return [common.Saying.FromString(one) for one in kept]
