"""`change follow`: what changes in one service, as it happens."""

from __future__ import annotations

import click

from pharmaloop.common.v1 import changes_pb2 as api
from services.cli.follow import follow, tell
from services.cli.nouns import CHANGE
from services.cli.plain import plain
from services.cli.session import Session


@CHANGE.verb("follow", "production", "clinical.hospital-b --type pharmaloop.clinical.v1.SubjectRecorded")
@click.argument("process")
@click.option(
    "--type", "types", multiple=True, metavar="NAME", help="Only events of this type, by full name."
)
@click.pass_obj
def follow_changes(session: Session, process: str, types: tuple[str, ...]) -> None:
    """Stay and tell every change of the records that PROCESS owns; with --json one document a line.

    PROCESS is a service, or a hospital's own process, as 'pharmaloop status' lists them.
    """
    request = api.WatchChangesRequest(types=types)
    for answer in follow(session, session.changes_of(process).WatchChanges, request):
        for change in answer.changes:
            found = plain(change)
            tell(session, found, f"{found['at']}  {found['type'].rpartition('.')[2]}  {found['id']}")
