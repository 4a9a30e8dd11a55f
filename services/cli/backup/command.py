"""`pharmaloop backup`: the one command that speaks to Kafka and MongoDB themselves, for it is about them."""

from __future__ import annotations

import os
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from services.cli.endpoints import NoEndpoints, find_endpoints, state_dir
from services.cli.nouns import BACKUP
from services.cli.progress import bar
from services.cli.session import Failure, Session
from services.cli.tables import table

if TYPE_CHECKING:
    from services.cli.backup.manifest import Manifest
    from services.cli.backup.work import Bar, Engines

_FOLDER = click.Path(path_type=Path, file_okay=False)


@BACKUP.verb("make", "backups/2026-11-27")
@click.argument("folder", type=_FOLDER, metavar="DIR")
@click.pass_obj
def make(session: Session, folder: Path) -> None:
    """Write a backup of the running platform into DIR, which must not exist yet.

    Services stay up. What was acknowledged before it began is in it. Keys are not: keep them apart.
    """
    from services.cli.backup import work  # noqa: PLC0415  what it needs takes its time to load

    began = time.monotonic()
    found = work.make(_engines(session), folder, _bars(session))
    _show(session, folder, found, "made", time.monotonic() - began)


@BACKUP.verb("verify", "backups/2026-11-27")
@click.argument("folder", type=_FOLDER, metavar="DIR")
@click.pass_obj
def verify(session: Session, folder: Path) -> None:
    """See that the backup in DIR is whole: every file, document and record; exit status 1 where it is not."""
    from services.cli.backup import work  # noqa: PLC0415  what it needs takes its time to load

    began = time.monotonic()
    found = work.verify(folder, _bars(session))
    _show(session, folder, found, "whole", time.monotonic() - began)


@BACKUP.verb("restore", "backups/2026-11-27")
@click.argument("folder", type=_FOLDER, metavar="DIR")
@click.pass_obj
def restore(session: Session, folder: Path) -> None:
    """Lay the backup in DIR back into an empty Kafka and MongoDB, before any service is started.

    Refused where anything of a platform is there. Start the services when it has ended: they catch up by
    themselves.
    """
    from services.cli.backup import work  # noqa: PLC0415  what it needs takes its time to load

    began = time.monotonic()
    found = work.restore(_engines(session), folder, _bars(session))
    _show(session, folder, found, "restored", time.monotonic() - began)


def _engines(session: Session) -> Engines:
    """Kafka and MongoDB by their settings; where these are not given, those of the endpoints."""
    from services.cli.backup.work import Engines  # noqa: PLC0415  what it needs takes its time to load
    from services.kit.errors import Invalid  # noqa: PLC0415
    from services.kit.log import configure_command  # noqa: PLC0415
    from services.kit.settings import KafkaSettings, MongoSettings, read_settings  # noqa: PLC0415

    configure_command()
    try:
        kafka, mongo = read_settings(KafkaSettings), read_settings(MongoSettings)
    except Invalid as error:
        raise Failure(error.description) from None
    named = {"KAFKA_BOOTSTRAP_SERVERS", "MONGODB_URI"} & os.environ.keys()
    if len(named) == 1:
        raise Failure(
            f"{named.pop()} is set, the other of KAFKA_BOOTSTRAP_SERVERS and MONGODB_URI is not: a backup is "
            "of both, of one platform",
            "set both, or neither",
        )
    if not named:
        try:
            found = find_endpoints(session.endpoints_option)
        except NoEndpoints:
            found = None
        if found is None or not found.kafka or not found.mongodb:
            raise Failure(
                "it is not known where Kafka and MongoDB are",
                "set KAFKA_BOOTSTRAP_SERVERS and MONGODB_URI, or start them here: make up ONLY=kafka,mongod",
            )
        kafka = kafka.model_copy(update={"bootstrap_servers": found.kafka})
        mongo = mongo.model_copy(update={"uri": found.mongodb})
    return Engines(kafka, mongo, state_dir())


def _bars(session: Session) -> Bar:
    def shown(what: str, total: int | None) -> AbstractContextManager[Any]:
        return bar(session, what, total)

    return shown


def _show(session: Session, folder: Path, found: Manifest, done: str, seconds: float) -> None:
    document = {
        "backup": str(folder),
        "done": done,
        "platform": found.platform,
        "contract": found.contract,
        "databases_at": _moment(found.databases_at),
        "topics_at": _moment(found.topics_at),
        "databases": len(found.databases),
        "collections": len(found.collections),
        "documents": found.documents,
        "topics": len(found.topics),
        "records": found.records,
        "groups": len(found.groups),
        "bytes": found.bytes,
        "seconds": round(seconds, 3),
    }

    def people(out: Console) -> None:
        rows = [[name.replace("_", " "), _told(value)] for name, value in document.items()]
        out.print(table("Backup", ["", ""], rows))
        if done == "made":
            out.print("Keys are not in it (the folder 'keys' of the state folder): keep them apart, as safe.")
        if done == "restored":
            out.print(
                "Bring the keys back (the folder 'keys' of the state folder), then start the services: they "
                "catch up with the topics before they take commands."
            )

    session.show(document, people)


def _moment(at: Any) -> str:
    return str(at.isoformat(timespec="milliseconds"))


def _told(value: object) -> str:
    return f"{value:,}" if isinstance(value, int | float) else str(value)
