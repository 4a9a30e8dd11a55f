"""Who can open what research releases to a plant: that plant, and nobody else."""

from __future__ import annotations

from hashlib import sha256

import pytest

from services.production.payloads import NotOurs, Payloads
from tests.unit.production.transfer_story import PLANT, Story, content

OTHERS = 100


class OthersKeys:
    """Keys of another plant, whatever they are asked for."""

    def __init__(self, name: str) -> None:
        self._key = sha256(name.encode()).digest()

    def make(self, key_id: str) -> bytes:
        return self._key

    def find(self, key_id: str) -> bytes:
        return self._key

    def destroy(self, key_id: str) -> None:
        raise NotImplementedError


def test_the_plant_that_it_is_for_opens_it() -> None:
    story = Story()
    assert story.payloads.open(story.released()) == content()


@pytest.mark.parametrize("claim", ["to be meant", "to be the plant"])
def test_none_of_a_hundred_other_plants_opens_it(claim: str) -> None:
    """By their own names, and by the name of the plant that it is for."""
    released = Story().released()
    opened = 0
    for number in range(OTHERS):
        other = f"plant-{number + 2}"
        released.plant = other if claim == "to be meant" else PLANT
        with pytest.raises(NotOurs):
            opened += bool(Payloads(OthersKeys(other)).open(released))
    assert opened == 0
