"""Streams that are told as it happens, gone on with after a break from where they were."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import click

from services.cli.session import Failure, Refused, Session, Unreachable
from services.cli.tables import console
from services.cli.wrong import show
from services.kit.rpc.errors import GO_ON

_DAY = 24 * 3600.0
_PAUSE = 2.0


def follow(session: Session, method: Callable[..., Iterator[Any]], request: Any) -> Iterator[Any]:
    """The answers, until Ctrl-C.

    A service that goes away once it has answered is waited for; what was told last may be told again.
    """
    heard, silent = False, False
    while True:
        try:
            for answer in session.stream(method, request, _DAY):
                heard, silent = True, False
                yield answer
                if answer.HasField("position"):
                    request.after.CopyFrom(answer.position)
                    if hasattr(request, "from_start"):
                        request.from_start = False
        except Failure as error:
            if not heard or not _goes_on(error):
                raise
            if not silent:
                show(error, session.as_json)
            silent = True
        except KeyboardInterrupt:
            return
        try:
            _pause()
        except KeyboardInterrupt:
            return


def _goes_on(error: Failure) -> bool:
    """Is it a failure after which a subscription asks again from where it was?"""
    return isinstance(error, Unreachable) or (isinstance(error, Refused) and error.code in GO_ON)


def tell(session: Session, document: dict[str, Any], line: str) -> None:
    """One change: a document for programs, a line for people."""
    if session.as_json:
        click.echo(json.dumps(document, ensure_ascii=False))
    else:
        console().print(line)


def _pause() -> None:
    time.sleep(_PAUSE)
