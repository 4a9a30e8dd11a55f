"""Data trust: does everybody hold what was announced, and was every input put to its use?"""

from __future__ import annotations

from deploy.grafana.alerts import BURN, burn
from deploy.grafana.links import STATUS, board, label, portal, runbook, uid
from deploy.grafana.model import Board, Panel, Query, Row

_SITE = portal("this hospital", f"/sites/{label('site')}")
_RECALLS = portal("open recalls", "/runs?loop=safety")

_AGREE = Row(
    "Do hospitals hold what was announced?",
    (
        Panel(
            "Recalls that differ",
            "lines",
            "suffix:runs",
            shows="Recalls of which a hospital holds other patients than were announced; the digests tell.",
            do="Right after an announcement it is well; above 0 for minutes compare both lists by the "
            "runbook.",
            queries=(Query("max by (site) (pharmaloop:digest_mismatches:last)", "{{site}}"),),
            links=(_SITE, board("site", site=label("site"))),
            alerts=("DigestMismatch",),
        ),
        Panel(
            "Patients without a record",
            "lines",
            "suffix:patients",
            shows="Patients whom the trace names and their hospital does not know.",
            do="Either record may be the wrong one: the hospital explains each on its page.",
            queries=(Query("max by (site) (pharmaloop:plans:last{stage='pending'})", "{{site}}"),),
            links=(_SITE, board("site", site=label("site"))),
            alerts=("PatientsWithoutRecord",),
        ),
        Panel(
            "Dispenses without a patient",
            "lines",
            "suffix:records",
            shows="Dispenses in open recalls of which nobody knows the patient.",
            do="Explain each on the page of its run; the recall is not sealed before.",
            queries=(Query("max by (service) (pharmaloop:unattributed_exposures:last)", "unattributed"),),
            links=(_RECALLS, board("loops")),
            alerts=("UnattributedExposures",),
        ),
    ),
)

_USED = Row(
    "Did every input have its effect?",
    (
        Panel(
            "Dead letters that wait",
            "bars",
            "suffix:letters",
            shows="Records of each runner that could not be processed and nobody has settled.",
            do="`pharmaloop dlq list` names them; mend the cause, then redrive, or discard with a reason.",
            queries=(
                Query("max by (service, site, runner) (pharmaloop_dead_letters_open)", "{{site}} {{runner}}"),
            ),
            links=(board("backbone", service=label("service")), STATUS),
            width=12,
            height=10,
            alerts=("DeadLettersWait",),
        ),
        Panel(
            "Why",
            "lines",
            "suffix:letters",
            shows="Records that became dead letters within an hour, by reason.",
            do="One reason many times is one cause: a partner's program, a release, a broken reference.",
            queries=(
                Query(
                    "sum by (service, reason) (increase(pharmaloop_dead_letters_total[1h]))",
                    "{{service}} {{reason}}",
                ),
            ),
            links=(board("backbone", service=label("service")), STATUS),
            width=12,
            height=10,
            empty="no record has become a dead letter",
        ),
        Panel(
            "Budget of inputs without effect",
            "lines",
            "suffix:× budget",
            shows="How many times as fast as it may each service uses up the inputs that may wait for a "
            "person.",
            do="Above the upper line somebody is woken: settle the dead letters of that service.",
            queries=(
                Query(burn("input-effect", "1h"), "{{service}} {{site}} 1h"),
                Query(burn("input-effect", "6h"), "{{service}} {{site}} 6h"),
            ),
            links=(board("backbone", service=label("service")), STATUS),
            alerts=("InputEffectBudget",),
            levels=BURN,
        ),
        Panel(
            "Decided and not published",
            "lines",
            "suffix:events",
            shows="Lots, recalls, plans and others whose next event Kafka refuses, by service.",
            do="What was decided there is stored and nobody else knows it: follow the runbook.",
            queries=(Query("max by (service, site) (pharmaloop_outbox_blocked)", "{{service}} {{site}}"),),
            links=(board("backbone", service=label("service")), STATUS),
            alerts=("OutboxBlocked",),
        ),
        Panel(
            "Waiting for what has not arrived",
            "lines",
            "suffix:records",
            shows="Sources whose events refer to something that has not arrived.",
            do="If it stays, a record was lost before it reached the platform: ask who sends it.",
            queries=(
                Query(
                    "max by (service, site, runner) (pharmaloop_runner_waiting_sources)",
                    "{{site}} {{runner}}",
                ),
            ),
            links=(board("backbone", service=label("service")), STATUS),
            alerts=("EventsWait",),
        ),
    ),
)

_OLD = Row(
    "Is what people see true now, and was nothing done twice?",
    (
        Panel(
            "What readers see is old",
            "lines",
            "s",
            shows="How old what the readers of each view see is.",
            do="Above the line people decide by an earlier state: tell them, and find what the view waits "
            "for.",
            queries=(
                Query(
                    "max by (service, site, runner) (pharmaloop_projector_delay_seconds)",
                    "{{site}} {{runner}}",
                ),
            ),
            links=(board("backbone", service=label("service")), STATUS),
            alerts=("ViewsBehind",),
        ),
        Panel(
            "Work that was taken over",
            "lines",
            "suffix:times",
            shows="How often a process came back within a quarter of an hour and was kept from doing work "
            "twice.",
            do="The fence held; find what pauses the machine of that process.",
            queries=(
                Query(
                    "sum by (service, site, part) (increase(pharmaloop_fenced_total[15m]))",
                    "{{service}} {{site}} {{part}}",
                ),
            ),
            links=(board("backbone", service=label("service")), STATUS),
            alerts=("WorkFenced",),
        ),
        Panel(
            "Records taken and committed by the loops",
            "lines",
            "cps",
            shows="Records that a loop takes a second, and by how much its committed place advances.",
            do="The second flat while the first is not: commits hang, restart the loops now.",
            queries=(
                Query(
                    "sum by (service, runner) (rate(pharmaloop_runner_records_total{service='loops'}[5m]))",
                    "{{runner}} taken",
                ),
                Query(
                    "sum by (service, runner) (deriv(pharmaloop_loop_committed_records[5m]))",
                    "{{runner}} committed",
                ),
            ),
            links=(board("backbone", service=label("service")), STATUS, runbook("LoopCommitsHang")),
        ),
    ),
)

BOARD = Board(
    uid("trust"),
    "PharmaLoop: Data trust",
    "Whether everybody holds what was announced, every input had its effect, and nothing was done twice.",
    (_AGREE, _USED, _OLD),
    links=(_RECALLS, portal("what waits for a person", "/waiting")),
)
