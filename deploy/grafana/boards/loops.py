"""Loops: the dashboard to start with, at three in the morning too."""

from __future__ import annotations

from deploy.grafana.alerts import BURN, burn
from deploy.grafana.links import EVERY_RUNBOOK, STATUS, board, column, label, portal, uid
from deploy.grafana.model import Board, Levels, Link, Panel, Query, Row

_STALLED = "max by (loop, stage) (pharmaloop:runs:last{state='stalled'})"

_ACT = Row(
    "Does somebody have to act?",
    (
        Panel(
            "What fires",
            "table",
            "suffix:alerts",
            shows="The alerts that fire now, and of what.",
            do="Begin with what says page; a database or Kafka that is away explains the rest of a service.",
            queries=(
                Query(
                    "sum by (alertname, severity, loop, stage, site, service, runner) "
                    "(ALERTS{alertstate='firing'})",
                    "firing",
                ),
            ),
            links=(Link("Runbook of this alert", f"${{docs}}/docs/runbooks/{column('alertname')}.md"),),
            width=12,
            levels=Levels(ticket=1),
            empty="nothing fires",
        ),
        Panel(
            "Runs past a deadline",
            "stat",
            "suffix:runs",
            shows="Runs of each loop whose stage was not over by its deadline.",
            do="See below in which stage, open its runs in the portal: each says what it waits for.",
            queries=(Query(f"sum by (loop) ({_STALLED})", "{{loop}}"),),
            links=(
                portal("stalled runs of this loop", f"/runs?loop={label('loop')}&state=stalled"),
                board("one-run", loop=label("loop")),
            ),
            width=4,
            alerts=("RunStalled",),
        ),
        Panel(
            "Patients to be told",
            "stat",
            "suffix:patients",
            shows="Patients of open recalls, by hospital, who are owed a notice and have none, as the "
            "hospital told them last where it is away.",
            do="Some are usual during a recall; if the number of a hospital does not fall, call the "
            "hospital.",
            queries=(Query("max by (site) (pharmaloop:notices:last{state='owed'})", "{{site}}"),),
            links=(
                portal("this hospital", f"/sites/{label('site')}"),
                board("site", site=label("site")),
            ),
            width=4,
            alerts=("PatientsNotTold",),
        ),
        Panel(
            "Patients without a record",
            "stat",
            "suffix:patients",
            shows="Patients of open recalls, by hospital, whom the trace names and the hospital does not "
            "know.",
            do="A recall is not sealed before they are explained: ask the hospital for the late records.",
            queries=(Query("max by (site) (pharmaloop:plans:last{stage='pending'})", "{{site}}"),),
            links=(
                portal("this hospital", f"/sites/{label('site')}"),
                board("site", site=label("site")),
            ),
            width=4,
            alerts=("PatientsWithoutRecord",),
        ),
    ),
)

_WHERE = Row(
    "Which stage, since when",
    (
        Panel(
            "Stage by stage",
            "table",
            "suffix:runs",
            shows="Runs in each stage: past the deadline, all, how long the longest has been in it, and "
            "how old "
            "the oldest run is.",
            do="Begin with what is past its deadline, and follow the row to that stage.",
            queries=(
                Query(_STALLED, "past the deadline"),
                Query("pharmaloop:runs:open > 0", "open"),
                Query("max by (loop, stage) (pharmaloop_run_in_stage_seconds) > 0", "longest in it", "s"),
                Query("max by (loop, stage) (pharmaloop_run_oldest_seconds) > 0", "oldest run", "s"),
            ),
            links=(
                board("one-run", loop=column("loop"), stage=column("stage")),
                portal("runs of this loop", f"/runs?loop={column('loop')}"),
            ),
            width=12,
            height=12,
            alerts=("RunStalled",),
        ),
        Panel(
            "Longest in a stage",
            "lines",
            "s",
            shows="Wall time that the run which is longest in a stage has spent there.",
            do="A line that only rises is a run that waits: see what its stage waits for.",
            queries=(
                Query("max by (loop, stage) (pharmaloop_run_in_stage_seconds) > 0", "{{loop}} {{stage}}"),
            ),
            links=(
                board("one-run", loop=label("loop"), stage=label("stage")),
                portal("runs of this loop", f"/runs?loop={label('loop')}"),
            ),
            width=12,
            height=12,
            empty="no run is open",
        ),
    ),
)

_HOSPITALS = Row(
    "At which hospital",
    (
        Panel(
            "Hospital by hospital",
            "table",
            "suffix:patients",
            shows="Of each hospital: its processes that do not answer, recalls of which it holds something "
            "else than was announced, and its patients who wait, as it told them last where it is away.",
            do="Begin with the hospital whose process is gone: recalls and patients wait for it.",
            queries=(
                Query("sum by (site) (1 - up{job='pharmaloop', site!=''})", "gone", "suffix:processes"),
                Query(
                    "max by (site) (pharmaloop:digest_mismatches:last)", "recalls that differ", "suffix:runs"
                ),
                Query("max by (site) (pharmaloop:plans:last{stage='pending'})", "without a record"),
                Query(
                    "max by (site) (pharmaloop:notices:last{state='unevaluated'})", "hazard not judged yet"
                ),
                Query("max by (site) (pharmaloop:notices:last{state='owed'})", "to be told"),
                Query("max by (site) (pharmaloop:notices:last{state='unreachable'})", "cannot be reached"),
            ),
            links=(
                board("site", site=column("site")),
                portal("this hospital", f"/sites/{column('site')}"),
            ),
            width=24,
            height=6,
            alerts=("ServiceGone", "DigestMismatch", "PatientsNotTold"),
            levels=Levels(),
        ),
    ),
)

_CARRY = Row(
    "Is it the platform?",
    (
        Panel(
            "Not ready",
            "stat",
            "suffix:processes",
            shows="Processes that run and cannot do their work.",
            do="Open the status: it names the part that does not do, and the setting that mends it.",
            queries=(Query("count(pharmaloop_ready == 0) or vector(0)", "not ready"),),
            links=(board("services"), STATUS),
            width=4,
            height=5,
            alerts=("ServiceNotReady",),
            levels=Levels(page=1),
        ),
        Panel(
            "Gone",
            "stat",
            "suffix:processes",
            shows="Processes that do not answer Prometheus.",
            do="Restart what is dead; what is cut off comes back with the network.",
            queries=(Query("count(up{job='pharmaloop'} == 0) or vector(0)", "gone"),),
            links=(board("services"), STATUS),
            width=4,
            height=5,
            alerts=("ServiceGone",),
            levels=Levels(page=1),
        ),
        Panel(
            "Runners that do not run",
            "stat",
            "suffix:runners",
            shows="Reactors, projectors and loops that stand still.",
            do="Read the log of the service, then restart it: events wait, none is lost.",
            queries=(
                Query(
                    "count(min by (service, site, runner) (pharmaloop_runner_up) == 0) or vector(0)", "down"
                ),
            ),
            links=(board("backbone"), STATUS),
            width=4,
            height=5,
            alerts=("RunnerDown",),
            levels=Levels(page=1),
        ),
        Panel(
            "Oldest event that waits",
            "stat",
            "s",
            shows="Age of the oldest record that some service has not taken.",
            do="Find service and topic on the backbone: an old watermark is stuck, a young one is slow.",
            queries=(Query("max(pharmaloop_group_lag_seconds)", "waits for a service"),),
            links=(board("backbone"), STATUS),
            width=4,
            height=5,
            alerts=("RecordsWait",),
        ),
        Panel(
            "Oldest event not published",
            "stat",
            "s",
            shows="Age of the oldest event that was decided and is not in Kafka.",
            do="Is Kafka reached? If it is, see which outbox waits on the backbone.",
            queries=(Query("max(pharmaloop_outbox_oldest_seconds)", "waits for Kafka"),),
            links=(board("backbone"), STATUS),
            width=4,
            height=5,
            alerts=("OutboxWaits",),
        ),
        Panel(
            "Dead letters",
            "stat",
            "suffix:letters",
            shows="Records that could not be processed and that nobody has settled.",
            do="Each may name a patient and holds the seal of its recall: settle it by its runbook.",
            queries=(Query("sum(max by (service, site, runner) (pharmaloop_dead_letters_open))", "open"),),
            links=(board("trust"), STATUS),
            width=4,
            height=5,
            alerts=("DeadLettersWait",),
        ),
    ),
)

_PROMISES = Row(
    "Is what was promised kept?",
    (
        Panel(
            "Budget of late stages",
            "lines",
            "suffix:× budget",
            shows="How many times as fast as it may each loop uses up what it may be late in a month, over "
            "an hour "
            "and over six.",
            do="Above the line somebody is woken; look which stage of that loop is late.",
            queries=(
                Query(burn("loop-latency", "1h"), "{{loop}} 1h"),
                Query(burn("loop-latency", "6h"), "{{loop}} 6h"),
            ),
            links=(
                board("one-run", loop=label("loop")),
                portal("runs of this loop", f"/runs?loop={label('loop')}"),
            ),
            alerts=("LoopLatencyBudget",),
            levels=BURN,
            empty="no stage ended in this time",
        ),
        Panel(
            "Time of a stage",
            "lines",
            "s",
            shows="95 of 100 stages that ended within an hour took no longer than this, in wall time.",
            do="A stage that grows slower is late next: see what it waits for while it is still in time.",
            queries=(Query("pharmaloop:stage_seconds:p95_1h", "{{loop}} {{stage}}"),),
            links=(
                board("one-run", loop=label("loop"), stage=label("stage")),
                portal("runs of this loop", f"/runs?loop={label('loop')}"),
            ),
            empty="no stage ended in this time",
        ),
        Panel(
            "Runs that ended",
            "lines",
            "suffix:runs",
            shows="Runs that ended within an hour, by outcome.",
            do="Runs that are cancelled or superseded again and again are a sign of bad triggers: read a "
            "few.",
            queries=(
                Query(
                    "sum by (loop, outcome) (increase(pharmaloop_loop_runs_total[1h]))",
                    "{{loop}} {{outcome}}",
                ),
            ),
            links=(portal("runs of this loop", f"/runs?loop={label('loop')}&state=ended"),),
            empty="no run has ended yet",
        ),
    ),
)

BOARD = Board(
    uid("loops"),
    "PharmaLoop: Loops (start here)",
    "Which loop is stuck, at which stage, at which hospital, how many patients wait, and where to go on.",
    (_ACT, _HOSPITALS, _WHERE, _CARRY, _PROMISES),
    links=(portal("board of runs", "/runs"), EVERY_RUNBOOK),
)
