"""What `feed readings --train` adds: the files' lots are good runs that their products' models learn from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.production.v1 import service_pb2 as api
from services.cli.session import Session
from services.kit.ids import derived_id, product_of

#: Training reads every sample of every lot.
_SECONDS = 300.0


@dataclass
class Lesson:
    """Lots whose readings have been sent, and how far the log has to be read to have them all."""

    lots: set[str] = field(default_factory=set)
    places: list[common.PositionVector] = field(default_factory=list)

    def add(self, lots: Iterable[str], places: common.PositionVector) -> None:
        self.lots.update(lots)
        self.places.append(places)

    def positions(self) -> common.PositionVector:
        last: dict[tuple[str, int], int] = {}
        for place in (place for vector in self.places for place in vector.positions):
            key = (place.topic, place.partition)
            last[key] = max(place.offset, last.get(key, -1))
        return common.PositionVector(
            positions=[
                common.LogPosition(topic=topic, partition=partition, offset=offset)
                for (topic, partition), offset in sorted(last.items())
            ]
        )


def train(session: Session, lesson: Lesson) -> dict[str, str]:
    """Train the model of each product; the version of each. Refused with the service's own reason."""
    lots_of: dict[str, list[str]] = defaultdict(list)
    for lot in sorted(lesson.lots):
        lots_of[product_of(lot)].append(lot)
    return {product: _train(session, product, lots, lesson) for product, lots in lots_of.items()}


def _train(session: Session, product: str, lots: Sequence[str], lesson: Lesson) -> str:
    places = lesson.positions()
    request = api.TrainModelRequest(
        request_id=derived_id(
            "feed-train", product, *lots, places.SerializeToString(deterministic=True).hex()
        ),
        product=product,
        lots=lots,
        min_position=places,
    )
    version: str = session.call(session.production.TrainModel, request, _SECONDS).version
    return version
