"""Plant: readings, lots, deviations, changes and transfers, of all plants together.

No metric carries a plant or a line: the portal's wall and lists tell them apart.
"""

from __future__ import annotations

from deploy.grafana.links import STATUS, board, column, portal, uid
from deploy.grafana.model import Board, Levels, Link, Panel, Query, Row

_WALL = portal("wall of lines", "/wall")
_DEVIATIONS = portal("deviations", "/deviations")


def _hour(*types: str) -> str:
    """How many events of these types were put into production's lists within an hour."""
    named = "|".join(f"production.{name}" for name in types)
    chosen = f"service='production', runner='production.lists', type=~'{named}', outcome='done'"
    return f"sum by (type) (increase(pharmaloop_handled_total{{{chosen}}}[1h]))"


def _events(title: str, shows: str, do: str, types: tuple[str, ...], link: Link) -> Panel:
    return Panel(
        title,
        "lines",
        "suffix:events",
        shows,
        do,
        (Query(_hour(*types), "{{type}}"),),
        (link,),
        empty="none yet",
    )


_READINGS = Row(
    "Readings of the lines",
    (
        Panel(
            "Readings judged",
            "lines",
            "cps",
            shows="Messages of readings that were judged against the golden run of their product, a second.",
            do="None while lines run: the plant's gateway or its broker is cut off, and faults are not seen.",
            queries=(
                Query(
                    "sum(rate(pharmaloop_handled_total{service='production', runner='production.detector', "
                    "type='production.ReadingsRecorded'}[$__rate_interval]))",
                    "judged",
                ),
            ),
            links=(_WALL, board("backbone", service="production")),
        ),
        Panel(
            "From reading to judgement",
            "lines",
            "s",
            shows="99 of 100 records of production had their effect in no more than this time.",
            do="Above a few seconds faults are seen late: find the runner that is slow on the backbone.",
            queries=(
                Query("max by (runner) (pharmaloop:runner_age:p99_5m{service='production'})", "{{runner}}"),
            ),
            links=(_WALL, board("backbone", service="production")),
        ),
        Panel(
            "Events that wait for production",
            "lines",
            "s",
            shows="Age of the oldest record that production has not taken, by topic.",
            do="Readings that wait are faults that are not seen: stuck or slow, the backbone says.",
            queries=(
                Query("max by (topic) (pharmaloop_group_lag_seconds{service='production'})", "{{topic}}"),
            ),
            links=(STATUS, board("backbone", service="production")),
            alerts=("RecordsWait",),
        ),
    ),
)

_QUALITY = Row(
    "Lots and deviations, an hour",
    (
        _events(
            "Decisions about lots",
            "Lots that were held, released and rejected within an hour.",
            "Many held at once follow one recall: see which in the list of lots.",
            ("LotHeld", "LotReleased", "LotRejected"),
            portal("lots", "/lots"),
        ),
        _events(
            "Deviations",
            "Deviations that were detected, confirmed, rejected and closed within an hour.",
            "Many detected and few decided: quality assurance is behind, or a model is wrong; read a few.",
            ("DeviationDetected", "DeviationConfirmed", "DeviationRejected", "DeviationClosed"),
            _DEVIATIONS,
        ),
        _events(
            "Laboratory",
            "Results, investigations that were opened, and those that were closed, within an hour.",
            "Results that stop while lots are made keep lots from their release: ask the laboratory.",
            ("TestResultRecorded", "LaboratoryInvestigationOpened", "InvestigationClosed"),
            portal("lots", "/lots"),
        ),
    ),
)

_CHANGES = Row(
    "Changes and transfers",
    (
        _events(
            "Corrective actions, an hour",
            "Actions that were proposed, approved or refused, validated, made effective and checked "
            "within an hour.",
            "Proposed and not decided, they wait for a person: the list of actions says for whom.",
            (
                "CapaProposed",
                "CapaApproved",
                "CapaRefused",
                "ChangeValidated",
                "ProcessLimitChanged",
                "CapaEffectivenessChecked",
            ),
            portal("corrective actions", "/capas"),
        ),
        _events(
            "Transfers, an hour",
            "Parameter sets that were adapted to a line, refused, proposed, decided, validated, effective, "
            "ended.",
            "Refused ones name the gap between set and line on their page.",
            (
                "TwinAdapted",
                "TransferRefused",
                "OptimisationProposed",
                "OptimisationDecided",
                "RecipeValidated",
                "RecipeEffective",
                "TransferOutcomeRecorded",
            ),
            portal("transfers", "/transfers"),
        ),
        Panel(
            "Transfers under way",
            "table",
            "suffix:runs",
            shows="Runs of the transfer loop by stage: past the deadline, and all.",
            do="Sign and validate wait for a person at the plant, produce for its next lots.",
            queries=(
                Query(
                    "max by (stage) (pharmaloop:runs:last{loop='transfer', state='stalled'})",
                    "past the deadline",
                ),
                Query("max by (stage) (pharmaloop:runs:open{loop='transfer'})", "open"),
            ),
            links=(
                board("one-run", loop="transfer", stage=column("stage")),
                portal("transfers", "/transfers"),
            ),
            levels=Levels(ticket=1),
            alerts=("RunStalled",),
        ),
    ),
)

_PROCESS = Row(
    "The service itself",
    (
        Panel(
            "Dead letters",
            "lines",
            "suffix:letters",
            shows="Records that production could not process and nobody has settled.",
            do="A bad reading or result stands behind each: `pharmaloop dlq list` shows them.",
            queries=(
                Query("max by (runner) (pharmaloop_dead_letters_open{service='production'})", "{{runner}}"),
            ),
            links=(board("trust"), STATUS),
            alerts=("DeadLettersWait",),
            levels=Levels(ticket=1),
        ),
        Panel(
            "Sources that wait",
            "lines",
            "suffix:records",
            shows="Sources, such as a line, whose events refer to something that has not arrived.",
            do="Something was lost before it reached the platform: which one, the runbook tells.",
            queries=(
                Query(
                    "max by (runner) (pharmaloop_runner_waiting_sources{service='production'})", "{{runner}}"
                ),
            ),
            links=(STATUS, _WALL),
            alerts=("EventsWait",),
        ),
        Panel(
            "Commands that wait",
            "lines",
            "suffix:commands",
            shows="Commands of people and programs that wait to be decided.",
            do="Near the line callers are told to come again: is the database slow?",
            queries=(Query("max(pharmaloop_decider_waiting{service='production'})", "waiting"),),
            links=(board("services", service="production"), STATUS),
            alerts=("CommandsQueue",),
            empty="no command was given yet",
        ),
    ),
)

BOARD = Board(
    uid("plant"),
    "PharmaLoop: Plant",
    "Readings, lots, deviations, changes and transfers of all plants together; the portal's wall tells "
    "them apart.",
    (_READINGS, _QUALITY, _CHANGES, _PROCESS),
    links=(_WALL, _DEVIATIONS),
)
