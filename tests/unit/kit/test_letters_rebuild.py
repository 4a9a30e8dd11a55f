"""Dead letters while a view is made anew: they have their effect in the making that is live in the end."""

from __future__ import annotations

import asyncio

import pytest

from services.kit.errors import Integrity
from services.kit.operations import Choice
from services.kit.runners.letters import DISCARDED, DONE, OPEN, REDRIVE
from services.kit.runners.notes import PARKED, REBUILDS, Rebuild
from tests.unit.kit.plant import RUNNER, WHO, A, B, Plant, held
from tests.unit.kit.support import LOT, NOTE, Turner


@pytest.fixture
def plant() -> Plant:
    return Plant()


# -- while a view is made anew ----------------------------------------------

NEW = NOTE.pinned(2)


def begin_rebuild(plant: Plant) -> Turner:
    plant.bench.database.docs[REBUILDS.name][RUNNER] = REBUILDS.to_doc(RUNNER, 1, Rebuild(1, 2))
    return plant.bench.making(plant.reactor, 2, follows=1)


def swap(plant: Plant, made: Turner) -> None:
    plant.bench.database.docs[REBUILDS.name][RUNNER] = REBUILDS.to_doc(RUNNER, 2, Rebuild(2, 0))
    made.runner.go_live()
    plant.bench.database.names.live[NOTE.name] = 2
    plant.runner = made


def test_a_rebuild_passes_over_what_was_discarded_even_if_it_could_be_folded_now(plant: Plant) -> None:
    plant.deploy("a1")
    plant.hear(held(A, 1), held(A, 2), held(A, 3))
    plant.discard("a1")
    plant.discard("a2")
    plant.redrive("a3")
    plant.deploy()
    begin_rebuild(plant).settle()
    assert plant.told(A, NEW) == plant.told(A) == ["a3"]
    assert [state for _, state in plant.stand()] == [DISCARDED, DISCARDED, DONE]


def test_a_letter_that_waits_has_its_effect_in_the_new_making_too(plant: Plant) -> None:
    plant.deploy("a1")
    plant.hear(held(A, 1), held(A, 2), held(B, 1))
    plant.deploy()
    made = begin_rebuild(plant)
    made.settle()
    assert (plant.told(A, NEW), plant.told(B, NEW)) == ([], ["b1"])
    assert plant.stand() == [("a1", OPEN), ("a2", OPEN)], "the rebuild makes no letters of its own"
    swap(plant, made)
    plant.redrive(runner=RUNNER)
    assert plant.told(A, NEW) == ["a1", "a2"]
    assert plant.bench.versions(LOT) == {A: 2, B: 1}, "what the letter does beside the view was lost"
    plant.hear(held(A, 3))
    assert plant.told(A, NEW) == ["a1", "a2", "a3"]


def test_letters_rest_while_a_view_is_made_anew(plant: Plant) -> None:
    plant.deploy("a1")
    plant.hear(held(A, 1), held(A, 2))
    plant.deploy()
    made = begin_rebuild(plant)
    plant.redrive(runner=RUNNER)
    assert plant.told() == []
    made.settle()
    assert plant.stand() == [("a1", REDRIVE), ("a2", REDRIVE)]
    swap(plant, made)
    made.settle()
    assert plant.told(A, NEW) == ["a1", "a2"]
    assert plant.bench.versions(LOT) == {A: 2}


def test_a_discard_frees_the_key_in_both_makings(plant: Plant) -> None:
    plant.deploy("a1")
    plant.hear(held(A, 1))
    made = begin_rebuild(plant)
    made.settle()
    assert len(plant.bench.states(PARKED)) == 2
    plant.discard("a1")
    assert plant.bench.states(PARKED) == {}
    plant.hear(held(A, 2))
    made.settle()
    assert plant.told(A, NEW) == plant.told(A) == ["a2"]


def test_a_rebuild_that_cannot_fold_what_the_view_has_stops(plant: Plant) -> None:
    plant.hear(held(A, 1), held(B, 1))
    before = plant.snapshot()
    plant.bugs = {"a1"}
    made = begin_rebuild(plant)
    with pytest.raises(Integrity, match="the view that answers has folded it"):
        made.settle()
    assert plant.all() == {}
    assert plant.bench.marks() == 2
    del plant.bench.database.docs[REBUILDS.name][RUNNER]
    assert plant.snapshot() == before, "the view that answers is untouched"


def test_a_making_that_was_replaced_takes_nothing_up(plant: Plant) -> None:
    # A process that has not heard of the swap yet.
    plant.deploy("a1")
    plant.hear(held(A, 1))
    plant.deploy()
    old, made = plant.runner, begin_rebuild(plant)
    made.settle()
    swap(plant, made)
    asyncio.run(plant.letters.redrive(Choice(runner=RUNNER), WHO))
    assert old.runner.look_aside() == 0
    assert plant.stand() == [("a1", REDRIVE)]
    made.settle()
    assert plant.told(A, NEW) == ["a1"]
