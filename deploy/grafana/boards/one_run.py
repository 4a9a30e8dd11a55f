"""One loop run: what a stage is like, and what it may be waiting for.

A run's id is in no label, for there is no end to them: who knows it (alerts
and the board of runs tell it) writes it above, and goes to its own page.
"""

from __future__ import annotations

from itertools import groupby

from deploy.grafana.links import STATUS, board, column, label, portal, uid
from deploy.grafana.model import Board, Choice, Levels, Panel, Query, Row, Written
from services.loops.domain.cases import LIMITS


def _limits() -> str:
    """The deadlines of all stages, in hours of the platform's clock."""
    told = []
    for loop, stages in LIMITS.items():
        groups = [
            f"{', '.join(name for name, _ in same)} {seconds / 3600:g} h"
            for seconds, same in groupby(stages.items(), key=lambda stage: stage[1])
        ]
        told.append(f"{loop}: {'; '.join(groups)}")
    return ". ".join(told)


def _runs(state: str) -> str:
    chosen = f'loop=~"$loop", stage=~"$stage", state="{state}"'
    return f"max by (loop, stage) (pharmaloop:runs:last{{{chosen}}})"


_CHOSEN = '{loop=~"$loop", stage=~"$stage"}'
_RUN = portal("the run that is written above", "/runs/${run}")
_RUNS = portal("runs of this loop", f"/runs?loop={label('loop')}")

_STAGE = Row(
    "The stage",
    (
        Panel(
            "Runs in it",
            "table",
            "suffix:runs",
            shows="Runs in the chosen stages: past the deadline, in time, how long the longest has been in "
            "it.",
            do="`pharmaloop run list --state stalled` names those past it; take the id of one to its page.",
            queries=(
                Query(
                    _runs("stalled"),
                    "past the deadline",
                ),
                Query(
                    _runs("open"),
                    "in time",
                ),
                Query(
                    f"max by (loop, stage) (pharmaloop_run_in_stage_seconds{_CHOSEN})", "longest in it", "s"
                ),
                Query(f"max by (loop, stage) (pharmaloop_run_oldest_seconds{_CHOSEN})", "oldest run", "s"),
            ),
            links=(portal("runs of this loop", f"/runs?loop={column('loop')}"), _RUN),
            width=12,
            height=10,
            alerts=("RunStalled",),
        ),
        Panel(
            "Longest in it",
            "lines",
            "s",
            shows="Wall time that the run which is longest in a stage has spent there. Deadlines, on the "
            "platform's "
            f"clock: {_limits()}.",
            do="A line that only rises is a run that waits: its page says for what.",
            queries=(
                Query(
                    f"max by (loop, stage) (pharmaloop_run_in_stage_seconds{_CHOSEN})", "{{loop}} {{stage}}"
                ),
            ),
            links=(_RUNS, _RUN),
            width=12,
            height=10,
        ),
        Panel(
            "Usual time",
            "lines",
            "s",
            shows="Half of the stages that ended within an hour took no longer than the first line, 95 of "
            "100 no "
            "longer than the second.",
            do="Compare with the longest above: far beyond what is usual, it waits and is not slow.",
            queries=(
                Query(
                    "histogram_quantile(0.5, sum by (loop, stage, le) "
                    f"(rate(pharmaloop_stage_seconds_bucket{_CHOSEN}[1h])))",
                    "{{loop}} {{stage}} half",
                ),
                Query(f"pharmaloop:stage_seconds:p95_1h{_CHOSEN}", "{{loop}} {{stage}} 95 of 100"),
            ),
            links=(_RUNS, _RUN),
            width=12,
            empty="no stage ended in this time",
        ),
        Panel(
            "Late in a day",
            "bars",
            "suffix:times",
            shows="How often a stage was not over by its deadline within a day.",
            do="The same stage day after day wants more people or a later deadline, not another restart.",
            queries=(
                Query(
                    f"sum by (loop, stage) (increase(pharmaloop_stage_stalls_total{_CHOSEN}[1d]))",
                    "{{loop}} {{stage}}",
                ),
            ),
            links=(portal("stalled runs of this loop", f"/runs?loop={label('loop')}&state=stalled"),),
            width=12,
            levels=Levels(ticket=1),
            alerts=("LoopLatencyBudget",),
        ),
    ),
)

_PATIENTS = Row(
    "What recalls wait for: hospitals and the trace",
    (
        Panel(
            "Hold something else than announced",
            "bars",
            "suffix:runs",
            shows="Stages receive to seal: recalls of which a hospital holds other patients than were "
            "announced.",
            do="Compare both lists with `pharmaloop run differences SITE RUN`, then follow the runbook.",
            queries=(Query("max by (site) (pharmaloop:digest_mismatches:last)", "{{site}}"),),
            links=(
                board("site", site=label("site")),
                portal("this hospital", f"/sites/{label('site')}"),
                _RUN,
            ),
            width=6,
            alerts=("DigestMismatch",),
        ),
        Panel(
            "No record of them yet",
            "bars",
            "suffix:patients",
            shows="Stages plan and seal: patients whom the trace names and their hospital does not know.",
            do="Ask the hospital for its late records, or let it explain the difference.",
            queries=(Query("max by (site) (pharmaloop:plans:last{stage='pending'})", "{{site}}"),),
            links=(
                board("site", site=label("site")),
                portal("this hospital", f"/sites/{label('site')}"),
                _RUN,
            ),
            width=6,
            alerts=("PatientsWithoutRecord",),
        ),
        Panel(
            "To be told",
            "bars",
            "suffix:patients",
            shows="Stage notify: patients of a judged hazard who have no notice.",
            do="Each notice is a person's work at the hospital: call it if the number does not fall.",
            queries=(Query("max by (site) (pharmaloop:notices:last{state='owed'})", "{{site}}"),),
            links=(
                board("site", site=label("site")),
                portal("this hospital", f"/sites/{label('site')}"),
                _RUN,
            ),
            width=6,
            alerts=("PatientsNotTold",),
        ),
        Panel(
            "Dispenses without a patient",
            "stat",
            "suffix:records",
            shows="Stage seal: dispenses in open recalls of which nobody knows the patient.",
            do="Each is explained on the run's page before the seal; the runbook says who may.",
            queries=(Query("max by (service) (pharmaloop:unattributed_exposures:last)", "unattributed"),),
            links=(board("trust"), _RUN),
            width=6,
            alerts=("UnattributedExposures",),
        ),
    ),
)

_MACHINE = Row(
    "What every loop waits for: the machine that runs it",
    (
        Panel(
            "Events that wait for the loops",
            "lines",
            "s",
            shows="Age of the oldest record that the loops have not taken, by topic.",
            do="While it grows runs stand still; see on the backbone whether the loops are stuck or slow.",
            queries=(
                Query(
                    "max by (group, topic) (pharmaloop_group_lag_seconds{service='loops'})",
                    "{{topic}} {{group}}",
                ),
            ),
            links=(board("backbone", service="loops"), STATUS),
            alerts=("RecordsWait",),
        ),
        Panel(
            "Commits of the loops hang",
            "lines",
            "s",
            shows="How long the committed place of a loop has stood still while it took records.",
            do="Above the line restart the loops now: nothing is lost, but the next restart takes all again.",
            queries=(
                Query(
                    "max by (service, runner) (pharmaloop_loop_commit_stalled_seconds)",
                    "{{service}} {{runner}}",
                ),
            ),
            links=(board("backbone", service="loops"), STATUS),
            alerts=("LoopCommitsHang",),
        ),
        Panel(
            "Steps that are overdue",
            "lines",
            "s",
            shows="By how much the oldest step that is due is late: deadlines, follow-ups, escalations.",
            do="Does its service run? Its status names what the step fails at.",
            queries=(
                Query(
                    "max by (service, site, step) (pharmaloop_step_overdue_seconds)",
                    "{{service}} {{site}} {{step}}",
                ),
            ),
            links=(board("services", service=label("service")), STATUS),
            alerts=("StepOverdue",),
        ),
    ),
)

BOARD = Board(
    uid("one-run"),
    "PharmaLoop: One loop run",
    "What the stage of a run is like, and what it may be waiting for. Write the run's id above to go to "
    "its page.",
    (_STAGE, _PATIENTS, _MACHINE),
    variables=(
        Choice("loop", "Loop", "pharmaloop_runs_open"),
        Choice("stage", "Stage", "pharmaloop_runs_open", within="loop"),
        Written(
            "run", "Run", "The id of a run, as alerts and the board of runs tell it; links lead to its page."
        ),
    ),
    links=(_RUN, portal("board of runs", "/runs")),
)
