"""The public keys of plants: what is released to one is sealed to it."""

from __future__ import annotations

from dataclasses import dataclass

from pharmaloop.production.v1 import events_pb2 as production


@dataclass(frozen=True)
class PlantKey:
    """The newest key that a plant published (X25519, 32 bytes)."""

    plant: str
    key_id: str
    public_key: bytes


def published(event: production.PlantKeyPublished) -> PlantKey:
    return PlantKey(event.plant, event.key_id, event.public_key)
