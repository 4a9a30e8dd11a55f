"""Named courses of the exposure protocol beyond the plain one: what is wrong, brought back, taken back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from google.protobuf.message import Message

from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.traceability.v1 import events_pb2 as events
from pharmaloop.traceability.v1.service_pb2 import ExplainUnattributedRequest
from services.kit.bus.protocol import Outgoing
from services.kit.contracts import contract
from services.kit.envelope import Event, to_record
from services.kit.errors import Invalid, Rejected, Unknown
from services.kit.runners.letters import DISCARDED, LETTERS
from services.kit.store.kinds import Plan, Write
from services.traceability.domain.entries import UNATTRIBUTED, entry_id
from services.traceability.domain.exposure import BULK
from services.traceability.views import ENTRIES, EXPOSURES, RUNS
from tests.unit.traceability.driver import (
    START,
    Service,
    asked,
    back,
    cancelled,
    dispense,
    lot,
    material,
    opened,
    registered,
    started,
    wrong,
)

A, B = "hospital-a", "hospital-b"


@pytest.fixture
def run(service: Service) -> Service:
    """raw -> bulk -> pack; P1 received a pack; a run on the raw lot has announced it."""
    for message in (registered(A), registered(B), started("raw"), material("bulk", "raw")):
        service.publish(message)
    service.publish(material("pack", "bulk"))
    service.publish(dispense("d1", "pack", A, "P1"))
    service.publish(opened("r", "raw"))
    service.settle()
    return service


def told(service: Service, *messages: object) -> events.ExposureAnnounced:
    for message in messages:
        service.publish(message)  # type: ignore[arg-type]
    service.settle()
    return service.announced("r")[-1]


def seal(service: Service, name: str = "r") -> None:
    service.publish(asked(name, service.announced(name)[-1].version))
    service.settle()
    assert service.state(RUNS, name).phase == "sealed"


def explain(service: Service, dispense: str, run: str = "r", **words: str) -> None:
    given = {"reason": "sold without a prescription", "meaning": "nobody can be named", **words}
    service.do("ExplainUnattributed", ExplainUnattributedRequest(run=run, dispense=dispense, **given))
    service.settle()


# -- returns ----------------------------------------------------------------------


def test_a_return_is_an_entry_of_its_own_and_the_member_stays(run: Service) -> None:
    before = run.announced("r")[-1].sites[A]
    after = told(run, back("d1", "pack")).sites[A]
    assert run.dispositions("r", "d1") == ["RETURNED_UNOPENED"]
    assert (after.n, after.epoch) == (before.n, before.epoch + 1)
    assert after.digest != before.digest


def test_an_opened_return_and_one_that_contradicts_an_unopened_one_leave_the_patient_exposed(
    run: Service,
) -> None:
    told(run, back("d1", "pack"), back("d1", "pack", unopened=False, source="wholesaler"))
    assert run.dispositions("r", "d1")[-1] == "RETURNED"


def test_one_of_two_dispenses_that_is_returned_says_nothing_of_the_other(run: Service) -> None:
    told(run, dispense("d2", "pack", A, "P1"), back("d2", "pack"))
    assert (run.dispositions("r", "d1"), run.dispositions("r", "d2")) == ([], ["RETURNED_UNOPENED"])


def test_a_return_after_the_seal_is_told_and_changes_nothing_that_was_sealed(run: Service) -> None:
    seal(run)
    sealed = run.announced("r")[-1]
    assert told(run, back("d1", "pack")) == sealed
    (late,) = [entry for entry in run.entered("r") if entry.disposition]
    assert (late.disposition, late.epoch) == ("RETURNED_UNOPENED", 0)
    assert run.state(EXPOSURES, "r").successor == ""


def test_an_opened_pack_that_nobody_told_of_went_to_somebody_unknown(run: Service) -> None:
    assert told(run, back("x1", "pack", unopened=False)).unattributed == 1
    assert told(run, back("x2", "pack")).unattributed == 1  # of the unopened one nobody took anything


# -- corrections --------------------------------------------------------------------


def test_a_wrong_lot_that_is_corrected_leaves_a_corrected_member_and_the_right_one_joins(
    run: Service,
) -> None:
    told(
        run,
        dispense("d9", "other", A, "P9"),
        wrong("d9", "other", right="d10"),
        dispense("d10", "pack", A, "P9"),
    )
    assert set(run.members("r")) == {"d1", "d10"}
    told(run, wrong("d1", "pack", right="d11"), dispense("d11", "other", A, "P1"))
    assert run.dispositions("r", "d1") == ["CORRECTED"]
    assert set(run.members("r")) == {"d1", "d10"}


def test_a_correction_by_one_of_two_sources_is_not_enough(run: Service) -> None:
    told(run, dispense("d1", "pack", A, "P1", source="hospital"), wrong("d1", "pack"))
    assert run.dispositions("r", "d1") == []
    told(run, wrong("d1", "pack", source="hospital"))
    assert run.dispositions("r", "d1") == ["CORRECTED"]


def test_what_was_corrected_counts_again_when_another_source_tells_of_it(run: Service) -> None:
    told(run, wrong("d1", "pack"))
    told(run, dispense("d1", "pack", A, "P1", source="hospital"))
    assert run.dispositions("r", "d1") == ["CORRECTED", "REINSTATED"]


def test_when_the_wrong_patient_was_named_both_are_listed_until_it_is_corrected(run: Service) -> None:
    assert told(run, dispense("d1", "pack", B, "P2", source="hospital")).unattributed == 1
    assert {(m.site, m.pseudonym) for m in run.entered("r")} == {(A, "P1"), (B, "P2")}
    assert told(run, wrong("d1", "pack")).unattributed == 0
    corrected = [m for m in run.entered("r") if m.disposition == "CORRECTED"]
    assert [(m.site, m.pseudonym) for m in corrected] == [(A, "P1")]


# -- mixed packs ----------------------------------------------------------------------


def test_a_patient_of_mixed_packs_is_listed_as_possible_for_each_of_the_lots(run: Service) -> None:
    told(run, dispense("d2", "other", A, "P2", possible=["pack"]), opened("s", "other"))
    assert (run.members("r")["d2"].possible, run.members("r")["d1"].possible) == (True, False)
    assert (run.members("r")["d2"].lot, run.members("s")["d2"].lot) == (lot("pack"), lot("other"))
    assert run.announced("r")[-1].unattributed == 0


# -- explanations ---------------------------------------------------------------------


def test_what_a_person_explained_is_counted_apart_and_a_record_still_finds_the_patient(run: Service) -> None:
    assert told(run, dispense("d2", "pack")).unattributed == 1
    explain(run, "d2")
    newest = run.announced("r")[-1]
    assert (newest.unattributed, newest.explained) == (0, 1)
    (signed,) = [t.message for t in run.told("r") if isinstance(t.message, events.UnattributedExplained)]
    assert (signed.dispense, signed.actor) == ("d2", "head-of-quality")
    newest = told(run, dispense("d2", "pack", A, "P2", source="hospital"))
    assert (newest.unattributed, newest.explained, newest.sites[A].n) == (0, 0, 2)


def test_an_explanation_falls_with_what_it_explained(run: Service) -> None:
    told(run, dispense("d2", "pack"))
    explain(run, "d2")
    newest = told(run, back("d2", "pack"))
    assert (newest.unattributed, newest.explained) == (0, 0)
    newest = told(run, back("d2", "pack", unopened=False, source="wholesaler"))
    assert (newest.unattributed, newest.explained) == (1, 0)


def test_an_explanation_given_twice_is_one(run: Service) -> None:
    told(run, dispense("d2", "pack"))
    explain(run, "d2")
    version = run.announced("r")[-1].version
    explain(run, "d2")
    assert run.announced("r")[-1].version == version


@pytest.mark.parametrize(
    ("dispense_id", "run_id", "words", "error", "field"),
    [
        ("d1", "r", {}, Unknown, "dispense"),
        ("d7", "nothing", {}, Unknown, "run"),
        ("d7", "r", {"reason": " "}, Invalid, "reason"),
        ("d7", "r", {"meaning": ""}, Invalid, "meaning"),
        ("d7", "r", {"reason": "x" * 2001}, Invalid, "reason"),
    ],
)
def test_what_cannot_be_explained_is_refused_with_its_field(
    run: Service, dispense_id: str, run_id: str, words: dict[str, str], error: type[Rejected], field: str
) -> None:
    told(run, dispense("d7", "pack"))
    with pytest.raises(error) as refused:
        explain(run, dispense_id, run_id, **words)
    assert refused.value.field == field


def test_a_sealed_run_takes_no_explanation(run: Service) -> None:
    told(run, dispense("d2", "pack"))
    seal(run)
    with pytest.raises(Rejected, match="sealed"):
        explain(run, "d2")
    assert not run.state(ENTRIES, entry_id("r", "d2", UNATTRIBUTED)).explained


# -- records that the fold cannot take ----------------------------------------------------


@pytest.mark.parametrize(
    "record", [dispense("d2", "pack", A, "P2"), back("d1", "pack"), material("p2", "bulk")]
)
def test_a_dead_lettered_fact_holds_the_seal_until_it_is_settled(run: Service, record: Message) -> None:
    topic, key = contract().route(record)
    good = to_record(Event("broken", "/svc/test", key, START, record, key), topic)
    run.bus.append(Outgoing(topic, good.key, b"\xff", good.headers))
    run.settle()
    ((id, letter),) = run.states(LETTERS).items()
    run.publish(asked("r", run.announced("r")[-1].version))
    run.fold_all()
    for _ in range(5):
        run.step()
    assert run.state(RUNS, "r").phase == "sealing"
    discarded = Write(LETTERS, id, 1, 2, letter.become(DISCARDED))
    run.store.transact(lambda txn: txn.write(Plan((discarded,), ())))
    run.settle()
    assert run.state(RUNS, "r").phase == "sealed"


def test_a_letter_of_a_view_holds_no_seal(run: Service) -> None:
    topic, key = contract().route(dispense("d2", "pack", A, "P2"))
    good = to_record(Event("broken", "/svc/test", key, START, dispense("d2", "pack", A, "P2"), key), topic)
    run.bus.append(Outgoing(topic, good.key, b"\xff", good.headers))
    run.settle()
    ((id, letter),) = run.states(LETTERS).items()
    of_a_view = Write(LETTERS, id, 1, 2, replace(letter, runner="traceability.dossier"))
    run.store.transact(lambda txn: txn.write(Plan((of_a_view,), ())))
    told(run, asked("r", run.announced("r")[-1].version))
    assert run.state(RUNS, "r").phase == "sealed"


# -- runs that overlap, end early, or are large ------------------------------------------


def test_triggers_on_an_ancestor_and_a_descendant_each_find_everybody_of_theirs(run: Service) -> None:
    told(run, opened("s", "pack"), material("pack2", "bulk"), dispense("d2", "pack2", B, "P2"))
    told(run, dispense("d3", "pack", A, "P3"))
    assert set(run.members("r")) == {"d1", "d2", "d3"}
    assert set(run.members("s")) == {"d1", "d3"}


def test_a_site_without_an_entry_is_announced_as_well(run: Service) -> None:
    empty = run.announced("r")[-1].sites[B]
    assert (empty.n, empty.epoch, int.from_bytes(empty.digest, "big")) == (0, 0, 0)


def test_a_cancelled_run_takes_nothing_more_and_has_no_successor(run: Service) -> None:
    before = told(run, cancelled("r", "raw"))
    assert run.state(RUNS, "r").phase == "cancelled"
    assert (
        told(run, dispense("d2", "pack", A, "P2"), material("pack2", "bulk"), registered("hospital-c"))
        == before
    )
    run.publish(asked("r", before.version))
    run.settle()
    assert not [
        t for t in run.told("r") if isinstance(t.message, events.ExposureSealed | events.ExposureAfterSeal)
    ]


def test_a_new_trigger_after_a_cancelled_run_finds_everybody(run: Service) -> None:
    told(run, cancelled("r", "raw"), dispense("d2", "pack", A, "P2"), opened("again", "raw"))
    assert set(run.members("again")) == {"d1", "d2"}


def test_a_run_that_is_cancelled_while_it_seals_stays_what_came_first(run: Service) -> None:
    run.publish(asked("r", run.announced("r")[-1].version))
    run.publish(cancelled("r", "raw"))
    run.settle()
    phase = run.state(RUNS, "r").phase
    sealed = [t for t in run.told("r") if isinstance(t.message, events.ExposureSealed)]
    assert phase == ("sealed" if sealed else "cancelled")


def test_a_closed_run_is_not_a_cancelled_one(run: Service) -> None:
    told(run, loops.LoopClosed(run="r", outcome=loops.RUN_OUTCOME_CLOSED))
    told(run, dispense("d2", "pack", A, "P2"))
    assert set(run.members("r")) == {"d1", "d2"}


def test_many_members_travel_in_bulks_and_each_once(service: Service) -> None:
    service.publish(registered(A))
    for number in range(BULK + 2):
        service.publish(dispense(f"d{number}", "raw", A, f"P{number}"))
    service.fold_all()
    service.publish(opened("r", "raw"))
    service.settle()
    bulks = [t.message for t in service.told("r") if isinstance(t.message, events.ExposureEntriesJoined)]
    assert sorted(len(bulk.entries) for bulk in bulks) == [2, BULK]
    assert len(service.members("r")) == BULK + 2
    assert service.announced("r")[-1].sites[A].n == BULK + 2
