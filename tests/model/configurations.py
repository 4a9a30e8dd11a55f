"""What the world may do in one search: facts, messages, people, faults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from google.protobuf.message import Message

from pharmaloop.clinical.v1 import events_pb2 as clinical
from tests.unit.traceability.driver import back, dispense, lot, material, moment, started

#: An offset of a partition at which no record stands, as a transaction's marker leaves one.
MARKER = -1


@dataclass(frozen=True)
class Configuration:
    """One search.

    `logs` are the partitions that a cut reads, with what is published to each,
    in order, at any moment; `records` what a hospital records, at any moment.
    `dispensed` says to which partition a site's own facts about a lot go.
    `eager` are parts that do what they can at once, in this order, before
    anything else happens: "loops", "sites", "owner", "persons"; of those
    `in_bulk` each takes all that has come to it in one move, at any moment.
    """

    name: str
    about: str
    logs: Mapping[str, tuple[Message | int, ...]]
    dispensed: Mapping[str, str]
    sites: tuple[str, ...]
    registered: tuple[str, ...]
    patients: Mapping[str, tuple[str, ...]]
    known: Mapping[str, tuple[Message, ...]] = field(default_factory=dict)
    records: Mapping[str, tuple[Message, ...]] = field(default_factory=dict)
    before: tuple[Message, ...] = ()
    root: str = "a"
    eager: tuple[str, ...] = ("owner",)
    in_bulk: tuple[str, ...] = ()
    until_seal: bool = False
    open_transactions: int = 0
    crashes: int = 0
    frozen: bool = False
    repeats: int = 0
    persons: bool = False
    closing: bool = False
    unreadable: tuple[Message, ...] = ()


A, B = "hospital-a", "hospital-b"


def _own(site: str, id: str, name: str, pseudonym: str) -> clinical.MedicationRecorded:
    """The hospital's own record of a dispense."""
    return clinical.MedicationRecorded(
        dispense=id, site=site, pseudonym=pseudonym, lot=lot(name), order=id, at=moment(10)
    )


_D1 = dispense("d1", "a", A, "p1")
_D2 = dispense("d2", "a", B, "p2")
_D2_OF_B = dispense("d2", "b", B, "p2")
_D3 = dispense("d3", "b")
_D4 = dispense("d4", "a", A, "p4")
#: When a lot was made is known: then a dispense of it writes nothing that its genealogy does.
_MADE = (started("a"), started("b"))
_ONE = {lot("a"): "a", lot("b"): "b"}
_PATIENTS = {A: ("p1", "p4"), B: ("p2",)}
_OWN = {A: (_own(A, "d1", "a", "p1"),), B: (_own(B, "d2", "a", "p2"),)}
AT_ONCE = ("owner", "loops", "sites", "persons")

ORDER = Configuration(
    "order",
    "2 lots and a late edge, 4 dispenses, 2 sites and the unattributed, a return, in any order",
    logs={"material": (material("b", "a"),), "b": (_D2_OF_B, _D3, back("d2", "b")), "a": ()},
    before=(_D1,),
    dispensed=_ONE,
    sites=(A, B),
    registered=(A, B),
    patients=_PATIENTS,
    known={A: (*_OWN[A], _own(A, "d4", "a", "p4"))},
    eager=AT_ONCE,
    until_seal=True,
    persons=True,
)
SMALL = Configuration(
    "small",
    "1 lot, 2 dispenses, 1 site; a transaction between others; a step that dies or freezes",
    logs={"a": (_D1, _D4)},
    dispensed=_ONE,
    sites=(A,),
    registered=(A,),
    patients={A: ("p1", "p4")},
    eager=AT_ONCE,
    persons=True,
    open_transactions=1,
    crashes=1,
    frozen=True,
)
MARKER_AT_THE_END = replace(
    SMALL,
    name="marker",
    about="1 lot, 1 dispense, and behind it an offset without a record",
    logs={"a": (_D1, MARKER)},
    crashes=0,
)
TOGETHER = Configuration(
    "together",
    "2 lots and a late edge, 2 dispenses, 2 sites; a transaction between others",
    logs={"material": (material("b", "a"),), "a": (_D1,), "b": (_D2_OF_B,)},
    before=_MADE,
    dispensed=_ONE,
    sites=(A, B),
    registered=(A, B),
    patients=_PATIENTS,
    eager=AT_ONCE,
    until_seal=True,
    persons=True,
    open_transactions=1,
)
FAULTS = replace(
    TOGETHER,
    name="faults",
    about="2 lots and a late edge, 2 dispenses, 2 sites; 2 crashes, a fact that comes again",
    logs={"material": (material("b", "a"),), "b": (_D2_OF_B,), "a": ()},
    before=(*_MADE, _D1),
    known={A: _OWN[A]},
    open_transactions=0,
    crashes=2,
    repeats=1,
)
REGISTRATION = replace(
    TOGETHER,
    name="registration",
    about="1 lot, 2 dispenses, 2 sites of which one registers late; a transaction between others",
    logs={"sites": (clinical.SiteRegistered(site=B, name=B),), "a": (_D1, _D2)},
    registered=(A,),
    open_transactions=1,
)
PARKED_SITE = replace(
    REGISTRATION,
    name="parked",
    about="1 lot, 2 dispenses, 2 sites; the registration of one is dead-lettered and processed later",
    unreadable=(clinical.SiteRegistered(site=B, name=B),),
    logs={"sites": (clinical.SiteRegistered(site=B, name=B),), "a": (_D1, _D2)},
    open_transactions=0,
)
LETTER = replace(
    PARKED_SITE,
    name="letter",
    about="1 lot, 2 dispenses, 2 sites; one dispense is dead-lettered and processed later",
    registered=(A, B),
    unreadable=(_D2,),
    logs={"b": (_D2,), "a": (_D1,)},
)
SUCCESSORS = Configuration(
    "successors",
    "2 lots and a late edge, 2 dispenses, 2 sites, a return, before and after seals; runs close",
    logs={"material": (material("b", "a"),), "b": (_D2_OF_B, back("d2", "b")), "a": ()},
    before=(_D1,),
    dispensed=_ONE,
    sites=(A, B),
    registered=(A, B),
    patients=_PATIENTS,
    known={A: _OWN[A]},
    eager=AT_ONCE,
    persons=True,
    closing=True,
)
DIFFERENCES = Configuration(
    "differences",
    "1 lot, 3 dispenses, 1 site: one that the hospital does not know, one that it alone knows",
    logs={"a": (_D1,)},
    before=(dispense("d2", "a", A, "p4"),),
    dispensed=_ONE,
    sites=(A,),
    registered=(A,),
    patients=_PATIENTS,
    records={A: (_own(A, "d1", "a", "p1"), _own(A, "d4", "a", "p4"))},
    eager=("owner", "loops", "sites"),
    until_seal=True,
    persons=True,
)
MESSAGES = Configuration(
    "messages",
    "1 lot, 2 dispenses, 2 sites; sites and loop take what came at any moment",
    logs={"a": (_D1,)},
    before=(_D2,),
    dispensed=_ONE,
    sites=(A, B),
    registered=(A, B),
    patients=_PATIENTS,
    known={B: _OWN[B]},
    records={A: _OWN[A]},
    in_bulk=("loops", "sites"),
    until_seal=True,
)
AGAIN = replace(
    MESSAGES,
    name="again",
    about="1 lot, 2 dispenses, 2 sites; the same, and any message or fact comes again later",
    known=_OWN,
    records={},
    repeats=1,
)
ONE_BY_ONE = Configuration(
    "one-by-one",
    "1 lot, 2 dispenses and a return, 1 site; site and loop take every message by itself",
    logs={"a": (back("d4", "a"),)},
    before=(_D4,),
    dispensed=_ONE,
    sites=(A,),
    registered=(A,),
    patients={A: ("p1", "p4")},
    known={A: (_own(A, "d4", "a", "p4"),)},
    records={A: _OWN[A]},
    until_seal=True,
)
UNATTRIBUTED_ALONE = Configuration(
    "unattributed",
    "1 lot, 2 dispenses of which one names nobody, until a person or a later record explains it; 1 crash",
    logs={"a": (dispense("d3", "a"),), "b": (dispense("d3", "a", A, "p4", source="wholesaler"),)},
    dispensed=_ONE,
    sites=(A,),
    registered=(A,),
    patients={A: ("p1", "p4")},
    before=(_D1,),
    known={A: (_own(A, "d1", "a", "p1"),)},
    eager=("owner", "loops", "sites"),
    until_seal=True,
    persons=True,
    crashes=1,
)
CONFIGURATIONS: Mapping[str, Configuration] = {
    one.name: one
    for one in (
        SMALL,
        MARKER_AT_THE_END,
        ORDER,
        TOGETHER,
        FAULTS,
        REGISTRATION,
        PARKED_SITE,
        LETTER,
        SUCCESSORS,
        DIFFERENCES,
        MESSAGES,
        AGAIN,
        ONE_BY_ONE,
        UNATTRIBUTED_ALONE,
    )
}
