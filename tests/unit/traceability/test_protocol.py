"""The exposure protocol in its named courses, through the real handlers and step."""

from __future__ import annotations

import pytest

from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.traceability.v1 import events_pb2 as events
from services.kit.ids import derived_id
from services.kit.runners.notes import PARKED, Parked
from services.kit.store.kinds import Plan, Write
from services.kit.work import STEPS
from services.traceability.domain import digest
from services.traceability.protocol import FOLD
from services.traceability.views import DISPENSES, EXPOSURES, NODES, RUNS, SUSPECTS
from tests.unit.traceability.driver import (
    Service,
    asked,
    dispense,
    lot,
    material,
    opened,
    registered,
    started,
)

A, B = "hospital-a", "hospital-b"


def published(service: Service, *messages: object) -> None:
    for message in messages:
        service.publish(message)  # type: ignore[arg-type]


def chain(service: Service) -> None:
    """Two sites; raw -> bulk -> two packs; a dispense of each pack and one of another lot."""
    published(
        service,
        registered(A),
        registered(B),
        started("raw"),
        material("bulk", "raw"),
        material("pack1", "bulk"),
        material("pack2", "bulk"),
        dispense("d1", "pack1", A, "P1"),
        dispense("d2", "pack2", B, "P2"),
        dispense("d3", "other", A, "P3"),
    )
    service.fold_all()


def digest_of(service: Service, run: str, site: str) -> bytes:
    """As the site computes it from what it heard."""
    key = service.outside.key(run, site)
    mine = [m for m in service.members(run).values() if m.site == site]
    terms = [digest.term(key, site, m.pseudonym, m.lot, m.dispense, "MEMBER") for m in mine]
    return bytes.fromhex(digest.added(digest.ZERO, terms))


def test_the_plain_course_announces_everything_and_seals(service: Service) -> None:
    chain(service)
    service.publish(opened("r", "raw"))
    service.settle()
    newest = service.announced("r")[-1]
    assert set(newest.lots) == {lot(name) for name in ("raw", "bulk", "pack1", "pack2")}
    assert {site: at.n for site, at in newest.sites.items()} == {A: 1, B: 1}
    assert all(at.digest == digest_of(service, "r", site) for site, at in newest.sites.items())
    service.publish(asked("r", newest.version))
    service.settle()
    last = service.told("r")[-1].message
    assert last == events.ExposureSealed(run="r", version=newest.version, lots=newest.lots, members=2)
    assert service.state(RUNS, "r").phase == "sealed"


def test_one_walk_finds_the_whole_tree_and_announces_it_once(service: Service) -> None:
    chain(service)
    service.publish(opened("r", "raw"))
    service.settle()
    kinds = [type(told.message).__name__ for told in service.told("r")]
    assert kinds == [
        "ExposureOpened",
        "ExposureOpened",
        *["LotImplicated"] * 4,
        *["ExposureEntriesJoined"] * 2,
        "ExposureAnnounced",
    ]
    depths = {
        t.message.lot: t.message.depth
        for t in service.told("r")
        if isinstance(t.message, events.LotImplicated)
    }
    assert depths == {lot("raw"): 0, lot("bulk"): 1, lot("pack1"): 2, lot("pack2"): 2}


def test_what_is_told_to_all_carries_the_runs_case_and_everything_goes_to_its_topic(service: Service) -> None:
    chain(service)
    service.publish(opened("r", "raw"))
    service.settle()
    service.publish(dispense("late", "pack1", A, "P9"))  # its cause has no run
    service.settle()
    told = service.told()
    assert {t.run for t in told} == {"r"}
    for t in told:
        site = getattr(t.message, "site", "")
        assert t.case == ("" if site else lot("raw"))
        assert t.topic == (
            f"pharmaloop.traceability.{site}.exposure.v1" if site else "pharmaloop.traceability.exposure.v1"
        )
    assert [t.seq for t in told] == list(range(1, len(told) + 1))


def test_an_empty_run_is_announced_with_every_site(service: Service) -> None:
    published(service, registered(A), registered(B), opened("r", "unheard-of"))
    service.settle()
    (only,) = service.announced("r")
    assert (only.version, list(only.lots), set(only.sites)) == (1, [lot("unheard-of")], {A, B})
    assert all(at == events.SiteExposure(epoch=0, n=0, digest=bytes(32)) for at in only.sites.values())
    assert not service.state(NODES, lot("unheard-of")).known


def test_nothing_is_walked_before_the_fold_has_passed_the_cut(service: Service) -> None:
    service.publish(opened("r", "raw"))
    service.fold_all()
    service.publish(dispense("d1", "raw", A, "P1"))
    service.step()
    assert service.state(RUNS, "r").phase == "watching"
    assert service.announced("r") == []
    service.settle()
    assert service.state(RUNS, "r").phase == "open"


def test_a_late_dispense_and_a_late_edge_join_an_open_run(service: Service) -> None:
    chain(service)
    service.publish(opened("r", "raw"))
    service.settle()
    published(service, dispense("d4", "pack1", A, "P4"), dispense("d5", "pack3", B, "P5"))
    service.settle()
    assert set(service.members("r")) == {"d1", "d2", "d4"}
    service.publish(material("pack3", "bulk"))
    service.fold_all()
    assert service.state(RUNS, "r").phase == "walking"  # implicated at once, not read again yet
    assert lot("pack3") in service.announced("r")[-1].lots
    service.settle()
    assert set(service.members("r")) == {"d1", "d2", "d4", "d5"}
    assert [a.version for a in service.announced("r")] == list(range(1, len(service.announced("r")) + 1))


def test_growth_during_the_seal_extends_it(service: Service) -> None:
    chain(service)
    service.publish(opened("r", "raw"))
    service.settle()
    published(service, asked("r", 1), dispense("d4", "pack1", A, "P4"))
    service.settle()
    assert service.told("r")[-1].message == events.ExposureExtended(run="r", asked=1, version=2)
    service.publish(asked("r", 2))
    service.settle()
    assert isinstance(service.told("r")[-1].message, events.ExposureSealed)


def test_what_comes_after_the_seal_names_one_successor_which_takes_it(service: Service) -> None:
    chain(service)
    service.publish(opened("r", "raw"))
    service.settle()
    service.publish(asked("r", 1))
    service.settle()
    published(
        service, dispense("d4", "pack1", A, "P4"), material("pack3", "bulk"), dispense("d5", "pack3", B, "P5")
    )
    service.settle()
    after = [t.message for t in service.told("r") if isinstance(t.message, events.ExposureAfterSeal)]
    successor = derived_id("successor", "r")
    assert after == [events.ExposureAfterSeal(run="r", successor=successor, root=lot("raw"))]
    assert set(service.members("r")) == {"d1", "d2"}
    service.publish(opened(successor, "raw", follows="r"))
    service.settle()
    assert set(service.members(successor)) == {"d4", "d5"}
    assert len(service.announced(successor)[-1].lots) == 5


def test_a_repeated_fact_after_the_seal_is_not_late(service: Service) -> None:
    chain(service)
    service.publish(opened("r", "raw"))
    service.settle()
    service.publish(asked("r", 1))
    service.settle()
    before = len(service.told())
    published(
        service,
        dispense("d1", "pack1", A, "P1"),
        dispense("d1", "pack1", A, "P1", source="hospital"),
        material("pack1", "bulk"),
    )
    service.settle()
    assert len(service.told()) == before


def test_a_site_that_registers_late_is_announced_and_gets_what_waited(service: Service) -> None:
    chain(service)
    service.publish(dispense("d6", "pack1", "hospital-c", "P6"))
    service.publish(opened("r", "raw"))
    service.settle()
    assert service.announced("r")[-1].unattributed == 1
    service.publish(registered("hospital-c"))
    service.settle()
    newest = service.announced("r")[-1]
    assert (newest.unattributed, newest.sites["hospital-c"].n) == (0, 1)
    assert newest.sites["hospital-c"].digest == digest_of(service, "r", "hospital-c")


def test_a_site_that_registers_during_the_first_walk_is_not_missed(service: Service) -> None:
    chain(service)
    service.publish(dispense("d6", "pack1", "hospital-c", "P6"))
    service.fold_all()

    def fold_a_site() -> None:
        service.publish(registered("hospital-c"))
        service.fold_all()

    service.during["Walk"] = fold_a_site
    service.publish(opened("r", "raw"))
    service.settle()
    newest = service.announced("r")[-1]
    assert (newest.unattributed, newest.sites["hospital-c"].n) == (0, 1)


def test_an_unattributed_dispense_becomes_a_member_by_its_second_source(service: Service) -> None:
    chain(service)
    service.publish(dispense("d7", "pack1"))
    service.publish(opened("r", "raw"))
    service.settle()
    assert (service.announced("r")[-1].unattributed, "d7" in service.members("r")) == (1, False)
    service.publish(dispense("d7", "pack1", A, "P7", source="hospital"))
    service.settle()
    assert (service.announced("r")[-1].unattributed, "d7" in service.members("r")) == (0, True)
    assert service.state(DISPENSES, "d7").sources == ("hospital", "pharmacy")


def test_sources_that_contradict_one_another_stay_unexplained(service: Service) -> None:
    chain(service)
    service.publish(opened("r", "raw"))
    service.settle()
    service.publish(dispense("d1", "pack1", A, "P1x", source="hospital"))
    service.settle()
    assert service.announced("r")[-1].unattributed == 1
    named = {m.pseudonym for m in service.entered("r") if m.dispense == "d1"}
    assert named == {"P1", "P1x"}  # whoever it was is among them
    assert service.state(SUSPECTS, "CONFLICT|d1").dispense == "d1"


def test_an_unattributed_dispense_that_is_explained_after_the_seal_is_late(service: Service) -> None:
    chain(service)
    service.publish(dispense("d7", "pack1"))
    service.publish(opened("r", "raw"))
    service.settle()
    service.publish(asked("r", 1))
    service.settle()
    assert service.state(EXPOSURES, "r").sealed
    service.publish(dispense("d7", "pack1", A, "P7", source="hospital"))
    service.settle()
    successor = service.state(EXPOSURES, "r").successor
    service.publish(opened(successor, "raw", follows="r"))
    service.settle()
    assert set(service.members(successor)) == {"d7"}
    assert service.announced(successor)[-1].unattributed == 0


def test_a_run_of_a_trigger_of_its_own_asks_every_patient_anew(service: Service) -> None:
    chain(service)
    service.publish(opened("r", "raw"))
    service.settle()
    service.publish(asked("r", 1))
    service.settle()
    service.publish(opened("again", "raw"))
    service.settle()
    assert set(service.members("again")) == {"d1", "d2"}


def test_runs_on_overlapping_lots_each_have_the_whole_journal(service: Service) -> None:
    chain(service)
    published(service, opened("r", "raw"), opened("s", "pack1"))
    service.settle()
    service.publish(dispense("d4", "pack1", A, "P4"))
    service.settle()
    assert (set(service.members("r")), set(service.members("s"))) == ({"d1", "d2", "d4"}, {"d1", "d4"})
    digests = {run: service.announced(run)[-1].sites[A].digest for run in ("r", "s")}
    assert digests["r"] != digests["s"]  # a key of its own for each run


def test_a_walk_and_a_fold_that_miss_each_other_are_mended(service: Service) -> None:
    """The walk reads before the dispense commits, the fold before the watch does: neither sees the other."""
    chain(service)
    missed = []

    def fold_a_dispense() -> None:
        service.publish(dispense("d4", "pack1", A, "P4"))
        service.fold_all()
        missed.append(service.members("r"))

    service.during["Walk"] = fold_a_dispense
    service.publish(opened("r", "raw"))
    service.settle()
    assert missed == [{}]
    assert set(service.members("r")) == {"d1", "d2", "d4"}


def test_an_edge_that_a_walk_misses_is_mended(service: Service) -> None:
    chain(service)
    service.publish(dispense("d5", "pack3", B, "P5"))

    def fold_an_edge() -> None:
        service.publish(material("pack3", "pack2"))
        service.fold_all()

    service.during["Walk"] = fold_an_edge
    service.publish(opened("r", "raw"))
    service.settle()
    assert set(service.members("r")) == {"d1", "d2", "d5"}


def test_a_late_dispense_during_the_seal_keeps_it_from_sealing(service: Service) -> None:
    chain(service)
    service.publish(opened("r", "raw"))
    service.settle()

    def fold_a_dispense() -> None:
        service.publish(dispense("d4", "pack1", A, "P4"))
        service.fold_all()

    service.during["Seal"] = fold_a_dispense
    service.publish(asked("r", 1))
    service.settle()
    assert service.told("r")[-1].message == events.ExposureExtended(run="r", asked=1, version=2)


def test_the_fold_leaves_the_row_of_a_waiting_step_alone(service: Service) -> None:
    """The step writes its row at every poll while it waits for the fold: they must not collide."""
    chain(service)
    service.publish(opened("r", "raw"))
    service.fold_all()
    row = service.database.docs[STEPS.name]["cut|r"]["v"]
    published(service, material("pack3", "raw"), asked("r", 1))
    service.fold_all()
    assert service.state(RUNS, "r").not_firm == (lot("raw"), lot("pack3"))
    assert service.database.docs[STEPS.name]["cut|r"]["v"] == row
    service.settle()
    assert service.database.docs[STEPS.name] == {}
    service.publish(material("pack4", "raw"))
    service.fold_all()
    assert "cut|r" in service.database.docs[STEPS.name]


def test_a_lot_is_not_firm_by_a_cut_that_was_noted_before_its_watch(service: Service) -> None:
    chain(service)
    service.publish(opened("r", "raw"))
    service.settle()
    run = service.state(RUNS, "r")
    assert run.round >= 2  # the second cut covers what the first walk put under watch
    assert run.not_firm == ()


def test_a_parked_record_of_the_fold_holds_the_seal(service: Service) -> None:
    chain(service)
    service.publish(opened("r", "raw"))
    service.settle()
    parked = Parked(FOLD, 1, "pharmaloop.production.lot.v1", lot("pack1"), "somewhere/0/0")
    service.store.transact(lambda txn: txn.write(Plan((Write(PARKED, "p", 0, 1, parked),), ())))
    service.publish(asked("r", 1))
    service.fold_all()
    for _ in range(5):
        service.step()
    assert service.state(RUNS, "r").phase == "sealing"
    service.store.transact(lambda txn: txn.write(Plan((Write(PARKED, "p", 1, 2, None),), ())))
    service.settle()
    assert service.state(RUNS, "r").phase == "sealed"


def test_a_step_that_dies_after_any_commit_goes_on(service: Service) -> None:
    chain(service)
    service.publish(opened("r", "raw"))
    for _ in range(6):
        service.fail_next_answer = True
        service.fold_all()
        service.step()
    service.fail_next_answer = False
    service.settle()
    service.publish(asked("r", service.announced("r")[-1].version))
    for _ in range(6):
        service.fail_next_answer = True
        service.fold_all()
        service.step()
    service.fail_next_answer = False
    service.settle()
    assert service.state(RUNS, "r").phase == "sealed"
    assert len([t for t in service.told("r") if isinstance(t.message, events.ExposureSealed)]) == 1


def test_a_cycle_is_stored_flagged_and_walked_once(service: Service) -> None:
    chain(service)
    published(service, material("bulk", "pack2"), material("raw", "raw"))
    service.publish(opened("r", "raw"))
    service.settle()
    assert set(service.announced("r")[-1].lots) == {lot(n) for n in ("raw", "bulk", "pack1", "pack2")}
    flagged = {node.lot for node in service.states(NODES).values() if node.suspect == "CYCLE"}
    assert flagged == {lot("raw"), lot("bulk"), lot("pack2")}
    assert {s.lot for s in service.states(SUSPECTS).values()} == flagged


def test_a_chain_deeper_than_one_walk_is_walked_to_its_end(service: Service) -> None:
    published(service, registered(A))
    for number in range(150):
        service.publish(material(f"l{number + 1}", f"l{number}"))
    service.publish(dispense("d", "l150", A, "P"))
    service.publish(opened("r", "l0"))
    service.settle()
    assert len(service.announced("r")[-1].lots) == 151
    assert set(service.members("r")) == {"d"}


@pytest.mark.parametrize("lot_first", [True, False])
def test_a_dispense_older_than_its_lot_is_kept_and_flagged(service: Service, lot_first: bool) -> None:
    made, given = started("pack1", at=5), dispense("d1", "pack1", A, "P1", at=1)
    for message in (made, given) if lot_first else (given, made):
        service.publish(message)
        service.fold_all()
    assert service.state(DISPENSES, "d1").suspects == ("OLDER_THAN_LOT",)
    assert service.state(SUSPECTS, "OLDER_THAN_LOT|d1").lot == lot("pack1")
    service.publish(material("pack1", "bulk", at=0))  # it was made earlier than the plant said
    service.fold_all()
    assert service.state(DISPENSES, "d1").suspects == ()
    assert service.states(SUSPECTS) == {}


def test_a_seal_of_a_run_that_is_sealed_or_unknown_changes_nothing(service: Service) -> None:
    chain(service)
    service.publish(opened("r", "raw"))
    service.settle()
    service.publish(asked("r", 1))
    service.settle()
    before = len(service.told())
    service.publish(loops.SealRequested(run="r", version=1))
    service.publish(asked("nobody", 1))
    service.settle()
    assert len(service.told()) == before
