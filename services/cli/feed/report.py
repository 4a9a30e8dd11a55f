"""What the feed says: a bar while it goes, a summary at its end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from services.cli.feed.send import Outcome
from services.cli.session import Session
from services.cli.tables import table


@contextmanager
def bar(session: Session, file: str, size: int) -> Iterator[Callable[[str, int], None]]:
    """A bar on a terminal; nothing that a program would stumble over."""
    console = Console(stderr=True)
    if session.as_json or not console.is_terminal:
        yield lambda doing, done: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(file, total=size)
        yield lambda doing, done: progress.update(task, description=f"{file} {doing}", completed=done)


def show(out: Console, outcomes: Sequence[Outcome], *, dry: bool) -> None:
    """The summary for people."""
    for outcome in outcomes:
        if outcome.before:
            told = f"taken before, all {outcome.rows:,} rows; --again sends it once more"
            out.print(f"{outcome.file}: {told}", markup=False)
            continue
        good = "good" if dry else "taken"
        out.print(
            f"{outcome.file}: {outcome.rows:,} rows, {outcome.taken:,} {good}, "
            f"{outcome.rejected.total():,} rejected",
            markup=False,
        )
        for name, tags in outcome.more.get("equipment", {}).items():
            out.print(
                f"  {name}: " + ", ".join(f"{tag} in {unit}" for tag, unit in tags.items()), markup=False
            )
        if lots := outcome.more.get("lots"):
            out.print(
                f"  lots ({len(lots):,}): {', '.join(lots[:3])}{' ...' if len(lots) > 3 else ''}",
                markup=False,
            )
        if outcome.ignored:
            out.print(f"  not read: {', '.join(outcome.ignored)}", markup=False)
        for message in outcome.first:
            out.print(f"  {json.dumps(message, ensure_ascii=False)}", markup=False)
        _show_rejects(out, outcome)


def _show_rejects(out: Console, outcome: Outcome) -> None:
    if not outcome.rejected:
        return
    rows = [
        [str(one["row"]), one["field"] or "-", one["rule"], one["message"]] for one in outcome.first_rejects
    ]
    out.print(table("Rejected", ["row", "field", "rule", "what to do"], rows))
    counted = ", ".join(f"{rule} {count:,}" for rule, count in outcome.rejected.most_common())
    out.print(f"  {counted}")
    if outcome.rejects:
        out.print(f"  all of them are in {outcome.rejects}: mend them there and feed that file", markup=False)
