"""The drills: what each breaks, which alert tells of it, and what is done by its runbook."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from deploy.drill.faults import Fault, Frozen, Garbage, Killed, NoSpace, Stopped, letters_of_drills
from deploy.drill.ground import Ground
from deploy.local.plan import CLINICAL, HOSPITALS

#: The hospital that is away where none is named: not the first, whose process has the plain name.
SITE = "hospital-b"
_PROCESS_OF = {site: process for process, site in CLINICAL.items()}
_FACTS = "pharmaloop.traceability.dispense.v1"
_MATERIAL = "pharmaloop.traceability.material.v1"
Words = Mapping[str, Sequence[str]]


def no_words(ground: Ground) -> Words:
    """Nothing of the runbook's commands has to be filled in."""
    return {}


@dataclass(frozen=True)
class Drill:
    """One drill.

    `labels` are those of the alert that the fault must raise. `asked` are more questions to Prometheus than
    the runbook has, by what they tell. `words` are what the runbook's words in capitals stand for, looked up
    once the alert fires. `by_hand` is what the runbook tells in words, as commands; of the commands of its
    section Mend those that begin with one of `mend` are run. What is left then (a process has to be started),
    undoing the fault does.
    """

    name: str
    story: str
    fault: Fault
    alert: str
    labels: Mapping[str, str]
    asked: Mapping[str, str] = field(default_factory=dict)
    words: Callable[[Ground], Words] = no_words
    by_hand: Callable[[Ground], list[str]] = lambda ground: []
    mend: Sequence[str] = ()
    remedy: str = ""


def site_down(site: str) -> Drill:
    """Three in the morning: one hospital's service is gone."""
    process = _PROCESS_OF[site]
    return Drill(
        "site-down",
        f"the service of one hospital ({site}) has stopped, and nobody starts it",
        Stopped(process),
        "ServiceGone",
        {"process": process, "site": site},
        asked={
            "which loop, in which stage": "max by (loop, stage, state) (pharmaloop:runs:last) > 0",
            "patients of this hospital, as it last said, by what they wait for": (
                f'max by (site, stage) (pharmaloop:plans:last{{site="{site}"}}) > 0'
            ),
            "patients of this hospital to be told, as it last said": (
                f'max by (site, state) (pharmaloop:notices:last{{site="{site}"}}) > 0'
            ),
        },
        words=lambda ground: {"PROCESS": [process]},
        by_hand=lambda ground: [f"tail -n 3 {ground.plan.log_file(process)}"],
        mend=(".venv/bin/python -m deploy.local.stack restart",),
        remedy="it ended, and its log shows no fault: it is started",
    )


def _poison(site: str) -> Drill:
    return Drill(
        "poison",
        "a record that nobody can read stands on a topic of the genealogy",
        Garbage(_MATERIAL, "pharmaloop.traceability.v1.MaterialRecorded"),
        "DeadLettersWait",
        {"service": "traceability"},
        words=lambda ground: {"LETTER": letters_of_drills(ground)},
        mend=("pharmaloop dlq discard LETTER",),
        remedy="one, and the sender was wrong: the letters are discarded, with the reason",
    )


def _kill_broker(site: str) -> Drill:
    return Drill(
        "kill-broker",
        "the only broker is killed, and stays away",
        Killed("kafka"),
        "KafkaUnreachable",
        {"service": "traceability"},
        by_hand=lambda ground: [f"tail -n 3 {ground.plan.log_file('kafka')}"],
        remedy="all services: it is the broker; it is started",
    )


def _lag(site: str) -> Drill:
    return Drill(
        "lag",
        "the trace's process stands still, and what it is to read comes",
        Frozen("traceability", _FACTS),
        "ServiceGone",
        {"process": "traceability"},
        by_hand=lambda ground: [f"kill -9 {ground.process('traceability').pid}"],
        remedy="it is there and frozen: it is killed, and its keeper starts it",
    )


def _disk_full(site: str) -> Drill:
    return Drill(
        "disk-full",
        "one service (rnd) cannot write a byte to its state folder",
        NoSpace("rnd"),
        "StateFolderUnwritable",
        {"service": "rnd"},
        remedy="there is room again",
    )


#: By name, made for a site. `restore` is not here: it breaks nothing (`restoring`).
DRILLS: Mapping[str, Callable[[str], Drill]] = {
    "site-down": site_down,
    "poison": _poison,
    "kill-broker": _kill_broker,
    "lag": _lag,
    "disk-full": _disk_full,
}
SITES = tuple(HOSPITALS)
