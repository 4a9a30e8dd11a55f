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

from services.cli.group import Noun
from services.cli.plain import plain
from services.cli.session import Failure, Session
from services.kit.ids import derived_id, new_id

M = TypeVar("M", bound=Message)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
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
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(told, dict):
            raise ValueError("it is no JSON object")
        for name in objects:
            if isinstance(told.get(name), dict):
                told[name] = json.dumps(told[name])
        request = ParseDict(told, message())
    except (ParseError, ValueError, RecursionError, OSError) as error:
        name = message.DESCRIPTOR.name
        raise Failure(
            f"{file} is no {name} as JSON: {error}; correct it, and give the command again"
        ) from None
    made: Any = request
    if not made.request_id:
        own = request_id if request_id or facts_of is None else id_of(request, facts_of)
        made.request_id = own or new_id()
    elif request_id and request_id != made.request_id:
        told = f"{file} gives the request id {made.request_id!r}, and --request-id another"
        raise Failure(f"{told}; leave one of them out")
    return request


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
