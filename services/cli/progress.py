"""How far long work is: on stderr, on a terminal, without `--json`; no program stumbles over it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from services.cli.session import Session
from services.cli.tables import console


@contextmanager
def bar(session: Session, what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """A bar to be moved on by so many; without a total it only counts."""
    out = console(stderr=True)
    if session.as_json or session.seen or not out.is_terminal:
        yield lambda done: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=out, transient=True) as shown:
        task = shown.add_task(what, total=total)
        yield lambda done: shown.advance(task, done)
