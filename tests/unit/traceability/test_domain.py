"""The pure parts: graph, claims, entries, digest, head."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace
from functools import reduce
from itertools import permutations

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.traceability.v1 import events_pb2 as events
from services.traceability.domain import digest, dispense, entries, exposure, graph, moments, run
from services.traceability.domain.dispense import Claim, Dispense
from services.traceability.domain.entries import MEMBER, UNATTRIBUTED, Held, News
from services.traceability.domain.graph import Node

LOTS = ["a", "b", "c", "d"]
EDGES = st.lists(st.tuples(st.sampled_from(LOTS), st.sampled_from(LOTS)), max_size=8)


class Keys:
    def key(self, run: str, site: str) -> bytes:
        return hashlib.sha256(f"{run}|{site}".encode()).digest()

    def sealed(self, run: str, site: str) -> common.Sealed:
        return common.Sealed(key_id=site)


# -- graph ------------------------------------------------------------------


def graph_of(edges: list[tuple[str, str]]) -> dict[str, Node]:
    nodes = {name: Node(name) for name in LOTS}
    for parent, child in edges:
        before = dict(nodes)
        nodes |= graph.linked(before, child, [parent], "")
        if graph.may_close_cycle(before, child, [parent]):
            above = ancestors(nodes, parent)
            for name in graph.on_cycle(above, child):
                nodes[name] = replace(nodes[name], suspect=graph.CYCLE)
    return nodes


def ancestors(nodes: dict[str, Node], name: str) -> dict[str, Node]:
    found, level = {name}, {name}
    while level:
        level = {above for lot in level for above in nodes[lot].inputs} - found
        found |= level
    return {lot: nodes[lot] for lot in found}


@given(EDGES, st.randoms(use_true_random=False))
def test_a_lot_is_flagged_exactly_when_it_is_its_own_ancestor(
    edges: list[tuple[str, str]], random: object
) -> None:
    nodes = graph_of(edges)
    own = {n for n in LOTS if any(n in ancestors(nodes, parent) for parent in nodes[n].inputs)}
    assert {n for n in LOTS if nodes[n].suspect} == own
    shuffled = list(edges)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert graph_of(shuffled) == nodes


def test_a_record_makes_its_lot_known_and_its_inputs_pending() -> None:
    nodes = graph.linked({"a": Node("a"), "b": Node("b")}, "b", ["a"], "2026-01-02")
    assert (nodes["b"].known, nodes["b"].made, nodes["b"].inputs) == (True, "2026-01-02", ("a",))
    assert (nodes["a"].known, nodes["a"].outputs) == (False, ("b",))
    assert graph.exists(nodes["b"], "2026-01-01").made == "2026-01-01"


# -- dispenses ----------------------------------------------------------------


def claims_in_order(claims: tuple[Claim, ...]) -> Dispense:
    made = None
    for claim in claims:
        made = dispense.claimed(made, "d", claim)
    assert made is not None
    return made


def test_claims_in_any_order_and_repeated_make_the_same_dispense() -> None:
    claims = (
        Claim("pharmacy", "l", "", "", "2026-01-02"),
        Claim("hospital", "l", "s", "P1", "2026-01-03"),
        Claim("wholesaler", "l", "s", "", ""),
    )
    results = {claims_in_order((*order, *order)) for order in permutations(claims)}
    assert len(results) == 1
    (made,) = results
    assert (made.patients, made.at, made.disputed) == ((("s", "P1"),), "2026-01-02", False)


def test_a_disputed_dispense_names_every_pair_that_somebody_claimed_and_no_other() -> None:
    made = claims_in_order((Claim("x", "l", "s2", "P1", ""), Claim("y", "l", "s1", "P2", "")))
    assert made.disputed
    assert made.patients == (("s1", "P2"), ("s2", "P1"))


def test_records_that_give_site_and_pseudonym_apart_name_a_patient_together() -> None:
    made = claims_in_order((Claim("x", "l", "s", "", ""), Claim("y", "l", "", "P", "")))
    assert made.patients == (("s", "P"),)
    assert made.disposition(dispense.Patient("s", "P")) == ""


def test_lots_that_packs_were_mixed_from_are_no_contradiction() -> None:
    mixed = claims_in_order((Claim("x", "l", "s", "P", "", ("m",)),))
    assert (mixed.lots, mixed.disputed) == (("l", "m"), False)
    assert not dispense.claimed(mixed, "d", Claim("y", "m", "s", "P", "")).disputed
    assert dispense.claimed(mixed, "d", Claim("y", "n", "s", "P", "")).disputed


# -- what becomes of a dispense -------------------------------------------------

P, Q = dispense.Patient("s", "P"), dispense.Patient("s", "Q")


def back(source: str, unopened: bool, lot: str = "l") -> dispense.Return:
    return dispense.Return(source, f"{source}/{unopened}", lot, unopened)


def test_a_return_counts_as_unopened_only_if_nobody_says_otherwise() -> None:
    one = dispense.returned(WHOLE, "d", back("x", True))
    assert (one.disposition(P), one.void) == (dispense.RETURNED_UNOPENED, True)
    both = dispense.returned(one, "d", back("y", False))
    assert (both.disposition(P), both.void) == (dispense.RETURNED, False)
    unknown = dispense.return_of(events.ReturnRecorded(source="x", record="r", lot="l"))
    assert not unknown.unopened


@pytest.mark.parametrize(
    ("came", "whole"),
    [
        ([("x", 2, "{pack}")], True),
        ([("x", 1, "{pack}")], False),
        ([("x", 1, "{pack}"), ("x", 1, "{pack}")], True),
        ([("x", 1, "{pack}"), ("y", 1, "{pack}")], False),  # both may tell of the same pack
        ([("x", 2, "{pack}"), ("y", 1, "{pack}")], False),
        ([("x", 0, "")], True),
        ([("x", 56, "{tablet}")], True),
        ([("x", 28, "{tablet}")], False),
        ([("x", 100, "g")], False),
    ],
)
def test_of_several_packs_all_must_come_back(came: list[tuple[str, float, str]], whole: bool) -> None:
    told = claims_in_order(
        (
            Claim("x", "l", "s", "P", "", (), 2, "{pack}"),
            Claim("h", "l", "s", "P", "", (), 56, "{tablet}"),
        )
    )
    records = [
        dispense.Return(source, f"r{number}", "l", True, amount, unit)
        for number, (source, amount, unit) in enumerate(came)
    ]
    for order in (records, records[::-1]):
        after = reduce(lambda known, item: dispense.returned(known, "d", item), order, told)
        assert after.disposition(P) == (dispense.RETURNED_UNOPENED if whole else dispense.RETURNED)


def test_a_correction_holds_only_when_every_source_takes_its_record_back() -> None:
    told = claims_in_order((Claim("x", "l", "s", "P", ""), Claim("y", "l", "s", "P", "")))
    half = dispense.corrected(told, "d", "x")
    assert (half.disposition(P), half.void) == ("", False)
    whole = dispense.corrected(half, "d", "y")
    assert (whole.disposition(P), whole.void) == (dispense.CORRECTED, True)
    assert dispense.claimed(whole, "d", Claim("z", "l", "s", "P", "")).disposition(P) == ""


def test_a_correction_that_comes_before_what_it_takes_back_gives_the_same() -> None:
    early = dispense.claimed(dispense.corrected(None, "d", "x"), "d", Claim("x", "l", "s", "P", ""))
    assert early == dispense.corrected(WHOLE, "d", "x")


def test_a_patient_named_by_mistake_is_corrected_and_the_right_one_stays() -> None:
    told = claims_in_order((Claim("x", "l", "s", "P", ""), Claim("y", "l", "s", "Q", "")))
    assert told.disputed
    mended = dispense.corrected(told, "d", "x")
    assert (mended.disputed, mended.patients) == (False, (P, Q))
    assert (mended.disposition(P), mended.disposition(Q)) == (dispense.CORRECTED, "")


def test_a_pack_that_came_back_and_that_nobody_told_of_was_dispensed_to_somebody() -> None:
    opened = dispense.returned(None, "d", back("x", False))
    assert (opened.lots, opened.void, entries.unexplained(opened, ["s"])) == (("l",), False, True)
    assert not entries.unexplained(dispense.returned(None, "d", back("x", True)), ["s"])


@pytest.mark.parametrize(
    ("at", "made", "suspects"),
    [
        ("2026-01-01", "2026-01-02", ("OLDER_THAN_LOT",)),
        ("2026-01-02", "2026-01-02", ()),
        ("2026-01-01", "", ()),
        ("", "2026-01-02", ()),
    ],
)
def test_age_is_judged_only_when_both_moments_are_known(
    at: str, made: str, suspects: tuple[str, ...]
) -> None:
    given = claims_in_order((Claim("x", "l", "s", "P", at),))
    assert dispense.aged(given, {"l": made}).suspects == suspects


def test_a_moment_outside_the_calendar_reads_as_not_given() -> None:
    assert moments.iso(Timestamp(seconds=10**15)) == ""
    assert moments.when(common.Moment()) == ""
    assert moments.stamp("") is None


@pytest.mark.parametrize(
    "text", ["2026-01-02T03:04:05.678901Z", "1969-12-31T23:59:59.000001Z", "0001-01-01T00:00:00Z"]
)
def test_a_moment_is_given_as_it_came(text: str) -> None:
    came = Timestamp()
    came.FromJsonString(text)
    assert moments.stamp(moments.iso(came)) == came


# -- entries ------------------------------------------------------------------

WHOLE = claims_in_order((Claim("x", "l", "s", "P", ""),))
BLIND = claims_in_order((Claim("x", "l", "", "", ""),))


NOBODY = Held({}, None, (), False)


def entry(kind: str, patient: dispense.Patient = P, **changes: object) -> entries.Entry:
    made = entries.entry_of("r", kind, WHOLE, "l", patient)
    opened = {"open_in": "r"} if kind == UNATTRIBUTED else {}
    return replace(made, **(opened | changes))  # type: ignore[arg-type]


MEMBERS = {P: entry(MEMBER)}
OPEN = entry(UNATTRIBUTED)


@pytest.mark.parametrize(
    ("given", "held", "news"),
    [
        (WHOLE, NOBODY, News((P,), (), 0, 0)),
        (BLIND, NOBODY, News((), (), 1, 0)),
        (WHOLE, NOBODY._replace(members=MEMBERS), News((), (), 0, 0)),
        (BLIND, NOBODY._replace(unattributed=OPEN), News((), (), 0, 0)),
        (WHOLE, NOBODY._replace(unattributed=OPEN), News((P,), (), -1, 0)),
        (WHOLE, NOBODY._replace(unattributed=replace(OPEN, explained=True)), News((P,), (), 0, -1)),
        (BLIND, NOBODY._replace(unattributed=replace(OPEN, explained=True)), News((), (), 0, 0)),
        (WHOLE, NOBODY._replace(unattributed=replace(OPEN, open_in="")), News((P,), (), 0, 0)),
        (WHOLE, NOBODY._replace(taken=(P,)), News((), (), 0, 0)),
        (WHOLE, NOBODY._replace(unattributed_before=True), News((P,), (), 0, 0)),
        (BLIND, NOBODY._replace(unattributed_before=True), News((), (), 0, 0)),
    ],
)
def test_what_of_a_dispense_is_new_to_a_journal(given: Dispense, held: Held, news: News) -> None:
    assert entries.news_of(given, ("s",), held) == news


def test_an_unregistered_site_leaves_a_dispense_unattributed() -> None:
    assert entries.news_of(WHOLE, (), NOBODY) == News((), (), 1, 0)


def test_what_becomes_of_a_member_is_told_once_and_taken_back_when_it_does_not_hold() -> None:
    gone = dispense.returned(WHOLE, "d", back("x", True))
    told = News((), ((P, dispense.RETURNED_UNOPENED),), 0, 0)
    assert entries.news_of(gone, ("s",), NOBODY._replace(members=MEMBERS)) == told
    held = {P: entry(MEMBER, disposition=dispense.CORRECTED, number=1)}
    again = entries.news_of(WHOLE, ("s",), NOBODY._replace(members=held))
    assert again.dispositions == ((P, dispense.REINSTATED),)
    held = {P: entry(MEMBER, disposition=dispense.REINSTATED, number=2)}
    assert entries.news_of(WHOLE, ("s",), NOBODY._replace(members=held)).dispositions == ()


# -- digest and head ----------------------------------------------------------


def test_the_digest_is_the_sum_of_keyed_hashes() -> None:
    key = bytes(range(32))
    text = b"s|P|m/gtin/1/L|d|MEMBER"
    one = int.from_bytes(hmac.new(key, text, hashlib.sha256).digest(), "big")
    assert digest.term(key, "s", "P", "m/gtin/1/L", "d", "MEMBER") == one
    two = digest.term(key, "s", "P", "m/gtin/1/L", "e", "MEMBER")
    both = digest.added(digest.ZERO, [one, two])
    assert both == digest.added(digest.added(digest.ZERO, [two]), [one])
    assert digest.added(both, [2**256 - two]) == digest.added(digest.ZERO, [one])


def members(count: int, site: str = "s") -> list[exposure.Joining]:
    return [exposure.Joining(site, f"d{n}", "l", f"P{n}", "2026-01-01T00:00:00+00:00") for n in range(count)]


def fold_head(growth: exposure.Growth, head: exposure.Exposure | None = None) -> exposure.Exposure:
    for event in exposure.grown(head, "r", "l", growth, Keys()):
        head = exposure.evolve(head, event)
    assert head is not None
    return head


def test_commits_one_by_one_and_together_give_the_same_head() -> None:
    together = fold_head(exposure.Growth([("l", 0)], members(3), 1, 0, ["s", "t"]))
    single = fold_head(exposure.Growth([("l", 0)], [], 0, 0, ["s", "t"]))
    for member in members(3):
        single = fold_head(exposure.Growth([], [member], 0, 0, ["s", "t"]), single)
    assert [site.digest for site in single.sites] == [site.digest for site in together.sites]
    assert (together.version, single.version, together.members) == (1, 4, 3)
    assert [(site.site, site.epoch, site.n) for site in single.sites] == [("s", 3, 3), ("t", 0, 0)]


def test_an_announced_head_with_nothing_new_stays_silent() -> None:
    head = fold_head(exposure.Growth([("l", 0)], [], 0, 0, ["s"]))
    assert exposure.grown(head, "r", "l", exposure.Growth([], [], 0, 0, ["s"]), Keys()) == []
    # An entry's own event copies nothing: a walk of n dispenses stays linear.
    assert exposure.evolve(head, events.ExposureEntriesJoined(run="r", site="s")) is head


def test_a_seal_is_answered_by_version_and_a_successor_named_once() -> None:
    head = fold_head(exposure.Growth([("l", 0)], members(2), 0, 0, ["s"]))
    assert exposure.answer(head, 1) == events.ExposureSealed(run="r", version=1, lots=["l"], members=2)
    assert exposure.answer(head, 7) == events.ExposureExtended(run="r", asked=7, version=1)
    (late,) = exposure.after_seal(head, "next")
    assert exposure.after_seal(exposure.evolve(head, late), "next") == []
    sealed = exposure.evolve(head, exposure.answer(head, 1))
    with pytest.raises(AssertionError, match="sealed"):
        exposure.grown(sealed, "r", "l", exposure.Growth([], members(3), 0, 0, ["s"]), Keys())


def test_what_became_of_a_member_changes_the_digest_and_the_epoch_and_not_the_number_of_members() -> None:
    head = fold_head(exposure.Growth([("l", 0)], members(1), 0, 0, ["s"]))
    returned = members(1)[0]._replace(number=1, disposition=dispense.RETURNED)
    (told, _) = exposure.grown(head, "r", "l", exposure.Growth([], [returned], 0, 0, ["s"]), Keys())
    assert isinstance(told, events.ExposureEntriesJoined)
    (entry,) = told.entries
    assert (entry.kind, entry.number, told.epoch) == (events.ENTRY_KIND_DISPOSITION, 1, 2)
    after = fold_head(exposure.Growth([], [returned], 0, 0, ["s"]), head)
    assert (after.sites[0].n, after.sites[0].epoch) == (1, 2)
    key = Keys().key("r", "s")
    kinds = ("MEMBER", "DISPOSITION/1/RETURNED")
    terms = [digest.term(key, "s", "P0", "l", "d0", kind) for kind in kinds]
    assert after.sites[0].digest == digest.added(digest.ZERO, terms)


# -- run ----------------------------------------------------------------------


def test_a_cut_covers_only_the_watches_that_stood_before_it() -> None:
    made = run.opened("r", "l", "l", "", "")
    noted = run.noted(made, 1, len(made.watches), 0, ())
    grown = run.watching(noted, [run.Watch("m", 1)])
    walked = run.walked(grown)
    assert (made.phase, walked.not_firm, walked.phase) == ("watching", ("m",), "walking")
    late = run.walked(run.noted(run.watching(made, [run.Watch("m", 1)]), 1, 1, 0, ()))
    assert late.not_firm == ("m",)  # its watch was committed after the ends were read
    again = run.walked(run.noted(walked, 2, 2, 0, ()))
    assert (again.not_firm, again.phase, again.at_rest) == ((), "open", True)


def test_a_cut_is_noted_once_and_in_its_turn() -> None:
    made = run.opened("r", "l", "l", "", "")
    place = (run.Place("t", 0, 5),)
    noted = run.noted(made, 1, 1, 0, place)
    assert run.noted(noted, 1, 1, 0, ()) == noted
    assert run.noted(noted, 2, 1, 0, ()) == noted  # the first is not passed yet
    assert run.noted(made, 2, 1, 0, ()) == made


def test_a_seal_needs_a_cut_that_was_noted_after_it_was_asked_for() -> None:
    open_run = run.walked(run.noted(run.opened("r", "l", "l", "", ""), 1, 1, 0, ()))
    asked = run.asking(open_run, 3)
    assert (asked.phase, asked.may_seal) == ("sealing", False)
    cut = run.walked(run.noted(asked, 2, 1, 3, ()))
    assert cut.may_seal
    assert not run.asking(cut, 4).may_seal
    assert run.answered(cut, True).phase == "sealed"
    assert run.asking(run.answered(cut, True), 5).asked == 0
