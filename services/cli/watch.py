"""`--watch`: look again and again, and show what has changed.

A service that is away for a while is waited for; what a service refuses ends the
watch. Ctrl-C ends it with exit status 0.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import click
from rich.console import Console

from services.cli.session import Failure, Session, Unreachable
from services.cli.wrong import show

EVERY_SECONDS = 2.0


@dataclass
class Seen:
    """What was shown last, and how often one looks."""

    every: float
    document: Any = None
    silent: str = ""

    def is_news(self, document: Any) -> bool:
        """Whether the document is another than the one before."""
        news, self.document = document != self.document, document
        return bool(news)

    def head(self, out: Console) -> None:
        """Begin a new page on a terminal; elsewhere say when it was seen."""
        at = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
        if out.is_terminal:
            out.clear()
            out.print(f"every {self.every:g} s, changed at {at}; Ctrl-C ends it", style="dim")
        else:
            out.print(f"# {at}")


def watch(session: Session, look: Callable[[], Any], every: float) -> None:
    """Look until somebody ends it."""
    seen = session.seen = Seen(every)
    try:
        while True:
            try:
                look()
                seen.silent = ""
            except click.exceptions.Exit:
                seen.silent = ""  # a check that failed goes on being watched
            except Failure as error:
                if error.exit_code != Unreachable.exit_code:
                    raise
                if seen.silent != error.message:
                    show(error, session.as_json)
                seen.silent = error.message
            time.sleep(every)
    except KeyboardInterrupt:
        return
