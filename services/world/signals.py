"""What a line measures: its tags, the values of a run, and the spread that is published of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from pharmaloop.production.v1 import events_pb2 as events

#: One value for each sample, by tag.
Profile: TypeAlias = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Tag:
    """A tag with its UCUM unit."""

    name: str
    unit: str
    set_point: bool = False


@dataclass(frozen=True)
class Model:
    """What GetModel publishes of each tag's spread."""

    spread: Mapping[str, Sequence[float]]

    @classmethod
    def of(cls, published: events.GoldenModelTrained) -> Model:
        return cls({tag.tag: tuple(tag.spread) for tag in published.tags})
