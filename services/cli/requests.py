"""Requests that are written in a file: JSON as the contract has it.

A verb that takes one is a single declaration: its noun, the message, the call.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import Message
from rich.console import Console

from services.cli.group import PROGRAM, Noun
from services.cli.plain import plain
from services.cli.session import Failure, Session
from services.kit.ids import derived_id, new_id

M = TypeVar("M", bound=Message)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
#: The `feed` that takes as CSV what a request says in JSON.
_FED = {
    "RecordDispenseRequest": "dispenses",
    "RecordMaterialRequest": "materials",
    "RecordReadingsRequest": "readings",
    "RecordTestResultsRequest": "results",
    "RecordSubjectsRequest": "patients",
    "RecordMedicationsRequest": "dispenses",
}
#: So much of a file is looked at to see what it is.
_HEAD = 4096
#: What a batch of facts may say beside its facts.
_OF_EVERY_BATCH = {"request_id", "site", "all_or_nothing"}
#: How the calls that record facts are named; all others decide.
_FACTS = "Record"
_SAME = """

The request's id is made of what FILE says and who says it: given again, as after an answer that did not
come, it counts once. What happened twice in the same words is told with another --request-id each time.
"""
_OTHER = """

Each run is a request of its own. Give --request-id, the same again, where a repeat is to have one effect.
"""
_ID = "The request's id, if FILE has none; a random one if not given."
_ID_OF_FACTS = "The request's id, if FILE has none; made of what FILE says if not given."
Call = Callable[[Session, Any], Callable[..., Any]]


def read_request(
    file: Path,
    message: type[M],
    *objects: str,
    request_id: str | None = None,
    facts_of: str | None = None,
) -> M:
    """The request in a file; Failure where it is none.

    A field among `objects` is text in the contract and may be written as an
    object. A request without an id is given
    `request_id`, else one made of what it says where `facts_of` names whose
    facts these are, else a random one.
    """
    name = message.DESCRIPTOR.name
    try:
        raw = file.read_bytes()
        if is_table(raw):
            raise _table_instead(file, message)
        told = json.loads(raw.decode("utf-8-sig"))
        if not isinstance(told, dict):
            raise ValueError("it is no JSON object")
        for field in objects:
            if isinstance(told.get(field), dict):
                told[field] = json.dumps(told[field])
        request = ParseDict(told, message())
    except (ParseError, ValueError, RecursionError, OSError) as error:
        raise Failure(
            f"{file} is no {name} as JSON: {error}; correct it, and give the command again"
        ) from None
    facts = _facts_of(message) if facts_of is not None else None
    if facts and not getattr(request, facts):
        raise Failure(
            f"{file} tells 0 facts, its {facts} are empty: nothing was sent",
            f"write at least one into {facts}, and give the command again",
        )
    made: Any = request
    if not made.request_id:
        own = request_id if request_id or facts_of is None else id_of(request, facts_of)
        made.request_id = own or new_id()
    elif request_id and request_id != made.request_id:
        told = f"{file} gives the request id {made.request_id!r}, and --request-id another"
        raise Failure(f"{told}; leave one of them out")
    return request


def is_table(raw: bytes) -> bool:
    """Are these the bytes of Parquet, or of rows with a header, and not of JSON?"""
    text = raw[:_HEAD].decode("utf-8-sig", "replace").lstrip()
    if raw.startswith(b"PAR1"):
        return True
    if text[:1] in ("", "{", "["):
        return False
    header, *rows = text.split("\n", 2)
    return any(mark in header and mark in (rows or [mark])[0] for mark in ",;\t")


def _table_instead(file: Path, message: type[Message]) -> Failure:
    """A table where JSON is wanted: which command takes it."""
    noun = _FED.get(message.DESCRIPTOR.name)
    takes = f"'{PROGRAM} feed {noun} {file}' takes" if noun else f"'{PROGRAM} feed -h' tells who takes"
    fields = message.DESCRIPTOR.fields
    first = _facts_of(message) or next(field.name for field in fields if field.name != "request_id")
    return Failure(
        f"{file} looks like CSV or Parquet; what is wanted is one request as JSON, "
        f'{{"{first}": ...}}: nothing was sent',
        f"{takes} CSV and Parquet",
    )


def _facts_of(message: type[Message]) -> str | None:
    """The field that holds the facts of a request; None where a request tells just one."""
    fields = message.DESCRIPTOR.fields
    lists = [field.name for field in fields if field.is_repeated]
    others = {field.name for field in fields if not field.is_repeated and not field.message_type}
    return lists[0] if len(lists) == 1 and others <= _OF_EVERY_BATCH else None


def id_of(request: Message, actor: str) -> str:
    """The id of a request of facts: equal where the same actor says the same, so that it counts once.

    A fact without a record id of its own is known by its request's.
    """
    bare = type(request)()
    bare.CopyFrom(request)
    bare.ClearField("request_id")
    content = hashlib.sha256(bare.SerializeToString(deterministic=True)).hexdigest()
    return derived_id("request", request.DESCRIPTOR.full_name, actor, content)


def taken_from_file(
    noun: Noun, verb: str, message: type[Message], call: Call, tells: str, seconds: float = 10.0
) -> None:
    """Give a noun a verb whose request is in a file; it prints what the service answered."""
    facts = message.DESCRIPTOR.name.startswith(_FACTS)

    def told(session: Session, file: Path, request_id: str | None) -> None:
        request = read_request(
            file, message, request_id=request_id, facts_of=session.actor if facts else None
        )
        answer = session.call(call(session, request), request, seconds)
        refused = list(getattr(getattr(answer, "receipt", None), "refused", ()))

        def people(out: Console) -> None:
            for one in refused:
                out.print(f"refused: record {one.index}, {one.field}: {one.description} ({one.reason})")
            if not refused:
                out.print(f"done: {noun.name} {verb} of {file}")

        session.show(plain(answer), people)
        if refused:
            raise click.exceptions.Exit(1)

    name = message.DESCRIPTOR.full_name
    fields = ", ".join(field.name for field in message.DESCRIPTOR.fields if field.name != "request_id")
    told.__doc__ = f"{tells}\n\nFILE holds a {name} as JSON: {fields}."
    told.__doc__ += _SAME if facts else _OTHER
    command = click.argument("file", type=FILE)(click.pass_obj(told))
    option = click.option("--request-id", metavar="ID", help=_ID_OF_FACTS if facts else _ID)
    noun.verb(verb, f"{noun.name}.json")(option(command))
