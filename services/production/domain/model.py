"""The golden-run model of a product that is in force."""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.message import Message

from pharmaloop.production.v1 import events_pb2 as events


@dataclass(frozen=True)
class Trained:
    """A product's newest model; `trained` keeps its GoldenModelTrained as it was."""

    product: str
    version: str
    trained: bytes

    def message(self) -> events.GoldenModelTrained:
        return events.GoldenModelTrained.FromString(self.trained)


def evolve(held: Trained | None, event: Message) -> Trained:
    """The model after its event: the newest replaces the one before."""
    assert isinstance(event, events.GoldenModelTrained)
    return Trained(event.product, event.version, event.SerializeToString(deterministic=True))
