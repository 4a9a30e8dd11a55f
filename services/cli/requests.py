"""Requests that are written in a file: JSON as the contract has it.

A verb that takes one is a single declaration: its noun, the message, the call.
"""

from __future__ import annotations

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
from services.kit.ids import new_id

M = TypeVar("M", bound=Message)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
Call = Callable[[Session, Any], Callable[..., Any]]


def read_request(file: Path, message: type[M], *objects: str) -> M:
    """The request in a file; Failure where it is none.

    A field among `objects` is text in the contract and may be written as an
    object. A request without an id is given one.
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
    made.request_id = made.request_id or new_id()
    return request


def taken_from_file(
    noun: Noun, verb: str, message: type[Message], call: Call, tells: str, seconds: float = 10.0
) -> None:
    """Give a noun a verb whose request is in a file; it prints what the service answered."""

    def told(session: Session, file: Path) -> None:
        request = read_request(file, message)
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
    command = click.argument("file", type=FILE)(click.pass_obj(told))
    noun.verb(verb, f"{noun.name}.json")(command)
