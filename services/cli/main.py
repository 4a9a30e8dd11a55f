"""The `pharmaloop` command: the operator's tool and the partner's example. gRPC only."""

from __future__ import annotations

import getpass

import click

from services.cli import (
    alerts,
    capas,
    dlq,
    dossier,
    exposures,
    laboratory,
    lineage,
    loops,
    lots,
    parameter_sets,
    quality,
    rebuild,
    research,
    status,
    studies,
    transfers,
    verify,
)
from services.cli.feed.command import feed
from services.cli.plugins import OpenGroup
from services.cli.session import Session


def _me() -> str:
    """Who calls, when nobody says so."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "operator"


@click.group(cls=OpenGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--endpoints", default="", metavar="JSON|FILE", help="Where the services listen.")
@click.option("--actor", default="", envvar="PHARMALOOP_ACTOR", help="Who you are, for the record.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@click.pass_context
def cli(context: click.Context, endpoints: str, actor: str, as_json: bool) -> None:
    """See and steer a running PharmaLoop platform."""
    session = Session(endpoints, actor or _me(), as_json)
    context.obj = session
    context.call_on_close(session.close)


for _command in (
    status.status,
    loops.loops,
    loops.cancel,
    exposures.unattributed,
    exposures.differences,
    exposures.explain,
    lots.lot,
    lots.trace_lot,
    dossier.dossier,
    lineage.lineage,
    quality.deviations,
    quality.confirm,
    quality.reject,
    quality.evaluate,
    quality.investigate,
    quality.classify,
    quality.close_deviation,
    capas.capas,
    capas.approve,
    capas.validate_change,
    capas.assess_filing,
    capas.check_effectiveness,
    transfers.transfers,
    transfers.transfer,
    transfers.lines,
    transfers.sign_transfer,
    transfers.validate_recipe,
    transfers.file_recipe,
    parameter_sets.parameter_sets,
    parameter_sets.parameter_set,
    parameter_sets.draft_parameter_set,
    parameter_sets.review_parameter_set,
    parameter_sets.release_parameter_set,
    parameter_sets.withdraw_parameter_set,
    research.trials,
    research.transfer_gaps,
    research.findings,
    research.take_up,
    research.decline,
    research.hypotheses,
    research.candidates,
    laboratory.results,
    laboratory.close_investigation,
    studies.datasets,
    studies.studies,
    studies.study,
    studies.request_study,
    studies.approve_study,
    studies.refuse_study,
    studies.stop_study,
    alerts.alerts,
    alerts.acknowledge,
    dlq.dlq,
    rebuild.rebuild,
    feed,
    verify.verify,
):
    cli.add_command(_command)

if __name__ == "__main__":
    cli()
