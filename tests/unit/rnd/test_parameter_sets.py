"""Parameter sets from draft to plant: who may sign, what is told, who can read it."""

from __future__ import annotations

import hashlib

import pytest

from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.rnd.v1 import events_pb2 as events
from pharmaloop.rnd.v1 import service_pb2 as api
from pharmaloop.rnd.v1.parameter_set_pb2 import ParameterSetContent
from services.kit import hpke
from services.kit.errors import Invalid, Rejected, Retryable, Unknown
from services.kit.ids import transfer_case
from services.rnd.api_parameter_sets import ParameterSetsApi
from tests.unit.rnd.memory import Plant, Research
from tests.unit.rnd.penicillin import (
    PRODUCT,
    SET,
    draft,
    known,
    release,
    released,
    review,
    says,
    withdraw,
)

READERS = 100


def opened(plant: Plant, told: events.ParameterSetReleased, as_plant: str = "") -> ParameterSetContent:
    """What the plant reads, as the contract says that it is sealed."""
    info = f"pharmaloop parameter set v1|{told.set}|{told.version}|{as_plant or plant.name}".encode()
    private = plant.keys.private
    plain = hpke.open_sealed(private, told.payload.ciphertext, info, told.content_hash)
    assert hashlib.sha256(plain).digest() == told.content_hash
    content = ParameterSetContent.FromString(plain)
    content.ClearField("salt")
    return content


@pytest.mark.req("G1a")
def test_a_release_carries_targets_ranges_specification_trial_and_signatures(research: Research) -> None:
    plant = Plant("plant-2")
    known(research, plant)
    asked = api.VirtualTrialDesign(
        patients_each=20, days=15, visits=[5, 8], replicates=20, least_probability=0.01
    )
    asked.least_difference = -100.0
    trial = research.call(
        "RunTrial", api.RunTrialRequest(product=PRODUCT, context_of_use="Is it better?", design=asked, seed=7)
    ).trial
    draft(research, says(trial=trial.trial), actor="ada")
    review(research, actor="ben")
    release(research, plant.name, actor="cy")
    (told,) = research.told(events.ParameterSetReleased)
    said = opened(plant, told)
    assert said.trial == trial.trial
    assert [(one.attribute, bool(one.target)) for one in said.targets] == [("titre", True)]
    assert [(one.attribute, one.limits.low) for one in said.attributes] == [("titre", 1.2)]
    for one in said.parameters:
        assert one.normal.low < one.set_point < one.normal.high
        assert one.proven.HasField("low")
        assert one.proven.HasField("high")
    assert (told.reviewer, told.actor) == ("ben", "cy")
    assert told.meaning


@pytest.mark.req("G1b")
def test_what_is_released_reaches_its_plant_and_nobody_else(research: Research) -> None:
    plant = Plant("plant-2")
    released(research, plant)
    (told,) = research.told(events.ParameterSetReleased)
    assert opened(plant, told) == says()
    assert told.payload.key_id == "plant/plant-2/1"
    assert hashlib.sha256(told.payload.ciphertext).digest() == told.payload_hash
    refused = 0
    for number in range(READERS):
        with pytest.raises(Invalid, match="NOT_OPENED"):
            opened(Plant(f"reader-{number}"), told, as_plant=plant.name)
        refused += 1
    assert refused == READERS


def test_a_payload_does_not_pass_for_another_version_or_plant(research: Research) -> None:
    plant = Plant("plant-2")
    released(research, plant)
    (told,) = research.told(events.ParameterSetReleased)
    with pytest.raises(Invalid, match="NOT_OPENED"):
        opened(plant, told, as_plant="plant-3")
    told.version = 2
    with pytest.raises(Invalid, match="NOT_OPENED"):
        opened(plant, told)


def test_the_hash_in_the_clear_does_not_let_a_set_point_be_found_by_trying(research: Research) -> None:
    """A plant that works by the version before knows everything but what `changes` names."""
    known(research)
    draft(research, says())
    (told,) = research.told(events.ParameterSetDrafted)
    guess = says().SerializeToString(deterministic=True)
    assert hashlib.sha256(guess).digest() != told.content_hash
    shown = research.call("GetParameterSet", api.GetParameterSetRequest(set=SET)).content
    assert shown == says(), "the salt is shown to nobody"
    with pytest.raises(Rejected, match="UNCHANGED"):
        draft(research, says(salt=b"chosen"))


def test_no_event_and_no_state_holds_what_a_set_says_in_the_clear(research: Research) -> None:
    plant = Plant("plant-2")
    released(research, plant, said=says(statement="A sentence to be found."))
    kept = repr((research.database.docs, research.database.outbox))
    assert "plant-2" in kept
    assert "A sentence to be found." not in kept


def test_two_people_sign(research: Research) -> None:
    known(research, Plant("plant-2"))
    draft(research, says(), actor="ada")
    with pytest.raises(Rejected, match="SAME_PERSON"):
        review(research, actor="ada")
    review(research, actor="ben")
    with pytest.raises(Rejected, match="SAME_PERSON"):
        release(research, "plant-2", actor="ben")
    release(research, "plant-2", actor="ada")
    (told,) = research.told(events.ParameterSetReleased)
    assert (told.actor, told.reviewer, told.meaning) == ("ada", "ben", "For use.")


def test_a_release_is_of_the_transfer_of_its_plant(research: Research) -> None:
    released(research, Plant("plant-2"), Plant("plant/3"))
    told = research.events(events.ParameterSetReleased)
    assert [(event.case, event.run) for event, _ in told] == [
        (transfer_case(SET, "plant-2"), ""),
        (transfer_case(SET, "plant/3"), ""),
    ]


def test_a_later_version_takes_the_place_of_the_earlier_at_its_plant_alone(research: Research) -> None:
    released(research, Plant("plant-2"), Plant("plant-3"))
    answer = draft(research, says(statement="With a wider range."))
    assert (answer.version, list(answer.changes)) == (2, ["statement"])
    review(research, version=2)
    release(research, "plant-2", version=2)
    ((event, told),) = research.events(events.ParameterSetSuperseded)
    assert (told.version, told.plant, told.by_version) == (1, "plant-2", 2)
    assert event.case == transfer_case(SET, "plant-2")
    first = research.call("GetParameterSet", api.GetParameterSetRequest(set=SET, version=1)).version
    assert first.state == api.PARAMETER_SET_STATE_RELEASED
    assert [(one.plant, one.superseded_by) for one in first.releases] == [("plant-2", 2), ("plant-3", 0)]
    release(research, "plant-3", version=2)
    first = research.call("GetParameterSet", api.GetParameterSetRequest(set=SET, version=1)).version
    assert first.state == api.PARAMETER_SET_STATE_SUPERSEDED


def test_an_earlier_version_does_not_come_back(research: Research) -> None:
    released(research, Plant("plant-2"), Plant("plant-3"))
    draft(research, says(statement="Again."))
    review(research, version=2)
    release(research, "plant-2", version=2)
    with pytest.raises(Rejected, match="LATER_VERSION"):
        release(research, "plant-2", version=1)
    with pytest.raises(Rejected, match="ALREADY_RELEASED"):
        release(research, "plant-3", version=1)


def test_nothing_earlier_follows_what_was_withdrawn(research: Research) -> None:
    known(research, Plant("plant-2"))
    draft(research, says())
    draft(research, says(statement="Better."))
    review(research)
    review(research, version=2)
    release(research, "plant-2", version=2)
    withdraw(research, version=2)
    with pytest.raises(Rejected, match="LATER_VERSION"):
        release(research, "plant-2", version=1)


def test_the_same_request_is_one_release(research: Research) -> None:
    known(research, Plant("plant-2"))
    draft(research, says())
    review(research)
    first = release(research, "plant-2", id="r-1")
    again = release(research, "plant-2", id="r-1")
    assert first == again
    assert len(research.told(events.ParameterSetReleased)) == 1


def test_plants_are_refused_that_are_named_twice_or_not_known(research: Research) -> None:
    known(research, Plant("plant-2"))
    draft(research, says())
    review(research)
    for plants, error, reason, field in (
        ((), Invalid, "REQUIRED", "plants"),
        (("plant-2", "plant-9"), Unknown, "UNKNOWN_PLANT", "plants[1]"),
        (("plant-2", "plant-2"), Invalid, "DUPLICATE_PLANT", "plants[1]"),
    ):
        with pytest.raises(error) as refused:
            release(research, *plants)
        assert (refused.value.reason, refused.value.field) == (reason, field)
    assert not research.told(events.ParameterSetReleased)


def test_every_plant_hears_of_a_withdrawal(research: Research) -> None:
    released(research, Plant("plant-2"), Plant("plant-3"))
    withdraw(research)
    told = research.events(events.ParameterSetWithdrawn)
    assert [(event.case, one.plant) for event, one in told] == [
        (transfer_case(SET, plant), plant) for plant in ("plant-2", "plant-3")
    ]
    shown = research.call("GetParameterSet", api.GetParameterSetRequest(set=SET, version=1)).version
    assert (shown.withdrawn_by, shown.withdrawal_meaning) == ("cy", "I take it back")
    with pytest.raises(Rejected, match="ILLEGAL_TRANSITION"):
        release(research, "plant-2")
    draft(research, says())
    withdraw(research, version=2)
    assert [(one.version, one.plant) for one in research.told(events.ParameterSetWithdrawn)][-1] == (2, "")


def test_a_plant_hears_of_a_withdrawal_when_a_later_version_is_on_its_way_to_it(research: Research) -> None:
    """It works by the earlier one until the later one is effective."""
    released(research, Plant("plant-2"))
    draft(research, says(statement="Another."))
    review(research, 2)
    release(research, "plant-2", version=2)
    withdraw(research)
    assert [(one.version, one.plant) for one in research.told(events.ParameterSetWithdrawn)] == [
        (1, "plant-2")
    ]
    assert research.call("GetParameterSet", api.GetParameterSetRequest(set=SET, version=1)).version.state == (
        api.PARAMETER_SET_STATE_WITHDRAWN
    )


def test_the_difference_of_two_versions_is_by_path(research: Research) -> None:
    known(research)
    draft(research, says())
    changed = says()
    changed.parameters[0].set_point = 0.043
    changed.attributes[0].limits.high = 2.0
    del changed.parameters[1:]
    changed.design_space.bounds[0].coefficients.pop("temperature")
    draft(research, changed)
    answer = research.call("GetParameterSetDiff", api.GetParameterSetDiffRequest(set=SET))
    told = {one.path: (one.before, one.after) for one in answer.differences}
    assert told["parameters[feed_rate].set_point"] == ("0.042", "0.043")
    assert told["attributes[titre].limits.high"] == ("", "2.0")
    assert told["parameters[temperature].normal.unit"] == ("K", "")
    assert told["design_space.bounds[0].coefficients[temperature]"] == ("1.0", "")
    assert "process.vessel.volume_m3" not in told


def test_a_changed_limit_asks_for_a_review_of_what_plants_work_by(research: Research) -> None:
    released(research, Plant("plant-2"))
    draft(research, says(statement="Not released."))
    changed = production.ProcessLimitChanged(
        product=PRODUCT, tag="feed_rate", limit_before=6, limit_after=5, capa="c-1", run="r-1"
    )
    research.tell(changed, case="maker-1/item/penicillin/L-1", run="r-1")
    research.tell(changed, seq=2)
    ((event, told),) = research.events(events.ReviewRequested)
    assert (told.set, told.version, told.capa, told.parameter) == (SET, 1, "c-1", "feed_rate")
    assert (event.case, event.run) == ("maker-1/item/penicillin/L-1", "r-1")
    shown = research.call("GetParameterSet", api.GetParameterSetRequest(set=SET, version=1)).version
    assert [one.capa for one in shown.reviews] == ["c-1"]


def test_sets_are_listed_by_product_and_state(research: Research) -> None:
    released(research, Plant("plant-2"))
    draft(research, says(), set="another")
    request = api.ListParameterSetsRequest(product=PRODUCT, state=api.PARAMETER_SET_STATE_DRAFT)
    assert [one.set for one in research.call("ListParameterSets", request).versions] == ["another"]
    newest = [one.set for one in research.call("ListParameterSets", api.ListParameterSetsRequest()).versions]
    oldest = research.call("ListParameterSets", api.ListParameterSetsRequest(oldest_first=True)).versions
    assert len(newest) == 2
    assert [one.set for one in oldest] == newest[::-1]


def test_what_is_not_there_is_said(research: Research) -> None:
    known(research)
    for method, request, reason in (
        ("GetParameterSet", api.GetParameterSetRequest(set="x"), "UNKNOWN_SET"),
        ("GetParameterSet", api.GetParameterSetRequest(set="x", version=3), "UNKNOWN_VERSION"),
        ("ReviewParameterSet", api.ReviewParameterSetRequest(set="x", version=1, meaning="m"), "UNKNOWN_SET"),
    ):
        with pytest.raises(Unknown, match=reason):
            research.call(method, request)


def test_the_same_draft_request_is_one_version(research: Research) -> None:
    known(research)
    request = api.DraftParameterSetRequest(request_id="d-1", set=SET, content=says())
    first = research.call("DraftParameterSet", request)
    again = research.call("DraftParameterSet", request)
    assert (again.version, again.content_hash) == (1, first.content_hash)
    assert len(research.told(events.ParameterSetDrafted)) == 1


def test_two_drafts_at_the_same_moment_are_no_one_version(
    research: Research, monkeypatch: pytest.MonkeyPatch
) -> None:
    known(research)
    draft(research, says())

    async def before_the_other(self: object, set: str) -> None:
        return None

    monkeypatch.setattr(ParameterSetsApi, "_set", before_the_other)
    with pytest.raises(Retryable, match="same request again"):
        draft(research, says(statement="At the same moment."))
    assert [one.version for one in research.told(events.ParameterSetDrafted)] == [1]


def test_a_signature_has_a_meaning_and_a_withdrawal_a_reason(research: Research) -> None:
    known(research, Plant("plant-2"))
    draft(research, says())
    unsigned = api.ReviewParameterSetRequest(set=SET, version=1, meaning=" ")
    with pytest.raises(Invalid, match="REQUIRED"):
        research.call("ReviewParameterSet", unsigned, "ben")
    review(research)
    request = api.ReleaseParameterSetRequest(set=SET, version=1, plants=["plant-2"])
    with pytest.raises(Invalid, match="REQUIRED"):
        research.call("ReleaseParameterSet", request, "cy")
    with pytest.raises(Invalid, match="REQUIRED"):
        research.call("WithdrawParameterSet", api.WithdrawParameterSetRequest(set=SET, version=1))
    assert not research.told(events.ParameterSetReleased)


def test_a_plant_that_renews_its_key_gets_the_next_release_by_the_new_one(research: Research) -> None:
    old = Plant("plant-2")
    released(research, old)
    new = Plant("plant-2")
    research.tell(new.published(), seq=2)
    draft(research, says(statement="Again."))
    review(research, version=2)
    release(research, "plant-2", version=2)
    first, second = research.told(events.ParameterSetReleased)
    assert opened(old, first).statement != opened(new, second).statement
    with pytest.raises(Invalid, match="NOT_OPENED"):
        opened(old, second)
