"""Site: what a hospital owes its patients, and whether its own processes do."""

from __future__ import annotations

from deploy.grafana.links import STATUS, board, label, portal, uid
from deploy.grafana.model import Board, Choice, Panel, Query, Row

_CHOSEN = 'site=~"$site"'
_PAGE = portal("this hospital", f"/sites/{label('site')}")
_RECALLS = portal("open recalls", "/runs?loop=safety")

_PATIENTS = Row(
    "Patients of open recalls",
    (
        Panel(
            "No record of them yet",
            "stat",
            "suffix:patients",
            shows="Patients whom the trace names and the hospital does not know.",
            do="Ask the hospital for its late records; on its page it can explain the difference.",
            queries=(
                Query(f"max by (site) (pharmaloop:plans:last{{{_CHOSEN}, stage='pending'}})", "{{site}}"),
            ),
            links=(_PAGE, _RECALLS),
            width=6,
            height=6,
            alerts=("PatientsWithoutRecord",),
        ),
        Panel(
            "To be told",
            "stat",
            "suffix:patients",
            shows="Patients of a judged hazard who have no notice.",
            do="Each notice is a person's work: call the hospital if the number does not fall.",
            queries=(
                Query(f"max by (site) (pharmaloop:notices:last{{{_CHOSEN}, state='owed'}})", "{{site}}"),
            ),
            links=(_PAGE, _RECALLS),
            width=6,
            height=6,
            alerts=("PatientsNotTold",),
        ),
        Panel(
            "Recalls that differ",
            "stat",
            "suffix:runs",
            shows="Recalls of which the hospital holds other patients than were announced to it.",
            do="Compare both lists with `pharmaloop run differences SITE RUN`, then follow the runbook.",
            queries=(Query(f"max by (site) (pharmaloop:digest_mismatches:last{{{_CHOSEN}}})", "{{site}}"),),
            links=(_PAGE, board("trust")),
            width=6,
            height=6,
            alerts=("DigestMismatch",),
        ),
        Panel(
            "Cannot be reached",
            "stat",
            "suffix:patients",
            shows="Patients whom the hospital tried to tell and could not.",
            do="They are no failure of the platform: the hospital's page names who has to find them.",
            queries=(
                Query(
                    f"max by (site) (pharmaloop:notices:last{{{_CHOSEN}, state='unreachable'}})", "{{site}}"
                ),
            ),
            links=(_PAGE, _RECALLS),
            width=6,
            height=6,
        ),
        Panel(
            "What became of their plans",
            "lines",
            "suffix:patients",
            shows="Patients by what became of their plan: pending, waiting and open ones are still under "
            "way.",
            do="Pending ones that stay hold the seal; look them up on the hospital's page.",
            queries=(
                Query(f"max by (site, stage) (pharmaloop:plans:last{{{_CHOSEN}}})", "{{site}} {{stage}}"),
            ),
            links=(_PAGE, _RECALLS),
            width=12,
        ),
        Panel(
            "Notices",
            "lines",
            "suffix:patients",
            shows="Patients to be told: unevaluated before the hazard is judged, owed after it, then "
            "notified or "
            "unreachable.",
            do="Owed has to fall and notified to rise; where both lie flat nobody works on them.",
            queries=(
                Query(f"max by (site, state) (pharmaloop:notices:last{{{_CHOSEN}}})", "{{site}} {{state}}"),
            ),
            links=(_PAGE, _RECALLS),
            width=12,
        ),
    ),
)

_PROCESSES = Row(
    "The hospital's own processes",
    (
        Panel(
            "Ready",
            "stat",
            "suffix:processes",
            shows="Processes of the hospital that can do their work: its clinical service and its agent in "
            "studies.",
            do="At 0 open the status, which names the part that does not do and the setting that mends it.",
            queries=(
                Query(
                    f"sum by (service, site) (pharmaloop_ready{{{_CHOSEN}, site!=''}})",
                    "{{site}} {{service}}",
                ),
            ),
            links=(STATUS, board("services", service=label("service"))),
            alerts=("ServiceNotReady",),
        ),
        Panel(
            "Events that wait for it",
            "lines",
            "s",
            shows="Age of the oldest record that the hospital has not taken, by topic.",
            do="Its lists lack what came since; above the line see the backbone for stuck or slow.",
            queries=(
                Query(
                    f"max by (service, site, topic) (pharmaloop_group_lag_seconds{{{_CHOSEN}, site!=''}})",
                    "{{site}} {{service}} {{topic}}",
                ),
            ),
            links=(STATUS, board("backbone", service=label("service"))),
            alerts=("RecordsWait",),
        ),
        Panel(
            "Events of it that wait",
            "lines",
            "s",
            shows="Age of the oldest event that the hospital decided and that is not in Kafka.",
            do="Nobody else hears of it: is the hospital cut off from its broker?",
            queries=(
                Query(
                    f"max by (service, site) (pharmaloop_outbox_oldest_seconds{{{_CHOSEN}, site!=''}})",
                    "{{site}} {{service}}",
                ),
            ),
            links=(STATUS, board("backbone", service=label("service"))),
            alerts=("OutboxWaits",),
        ),
        Panel(
            "Dead letters",
            "lines",
            "suffix:letters",
            shows="Records that the hospital could not process and nobody has settled.",
            do="Each may name a patient: `pharmaloop dlq list` shows them, the runbook how to settle them.",
            queries=(
                Query(
                    f"max by (service, site, runner) (pharmaloop_dead_letters_open{{{_CHOSEN}, site!=''}})",
                    "{{site}} {{runner}}",
                ),
            ),
            links=(STATUS, board("trust")),
            alerts=("DeadLettersWait",),
        ),
        Panel(
            "Calls",
            "lines",
            "reqps",
            shows="Calls of the hospital's services a second, and those of them that failed.",
            do="None at all where people work: they cannot reach it.",
            queries=(
                Query(
                    f"sum by (service, site) (pharmaloop:rpc:rate5m{{{_CHOSEN}, site!=''}})",
                    "{{site}} {{service}}",
                ),
                Query(
                    f"sum by (service, site) (pharmaloop:rpc_errors:rate5m{{{_CHOSEN}, site!=''}}) > 0",
                    "{{site}} {{service}} failed",
                ),
            ),
            links=(STATUS, board("services", service=label("service"))),
            alerts=("RpcAvailabilityBudget",),
        ),
        Panel(
            "Steps that are overdue",
            "lines",
            "s",
            shows="By how much the oldest step of the hospital that is due is late, such as a follow-up's "
            "end.",
            do="Does its service run? Its status names what the step fails at.",
            queries=(
                Query(
                    f"max by (service, site, step) (pharmaloop_step_overdue_seconds{{{_CHOSEN}, site!=''}})",
                    "{{site}} {{step}}",
                ),
            ),
            links=(STATUS, board("services", service=label("service"))),
            alerts=("StepOverdue",),
        ),
    ),
)

BOARD = Board(
    uid("site"),
    "PharmaLoop: Site",
    "What a hospital owes the patients of open recalls, and whether its own processes do.",
    (_PATIENTS, _PROCESSES),
    variables=(Choice("site", "Hospital", "pharmaloop_plans"),),
    links=(portal("hospitals", "/sites"),),
)
