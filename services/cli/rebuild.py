"""`rebuild`: a view is made anew from the log, beside the one that answers, and takes its place.

The services do it; this command starts it, shows how far it is, and may go at
any time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pharmaloop.common.v1 import operations_pb2 as api
from services.cli.nouns import REBUILD
from services.cli.plain import plain
from services.cli.processes import known_as, own, process_of
from services.cli.session import Failure, Missing, Session
from services.cli.tables import table
from services.kit.ids import new_id

_POLL_SECONDS = 0.3
#: A service may be restarted meanwhile: the rebuild goes on after it.
_SILENT_SECONDS = 60.0
_FAILED = "failed"


class Ended(Failure):
    """The rebuild did not come to its end; exit status 1."""

    exit_code = 1


class ViewArgument(click.ParamType):
    """The name of a view: of its service, and its own."""

    name = "view"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if "." not in str(value):
            self.fail(
                f"{value!r} names no service: views are called service.name; 'pharmaloop rebuild list' "
                "lists them",
                param,
                ctx,
            )
        return str(value)


VIEW = ViewArgument()


@REBUILD.verb("list", watched=True)
@click.pass_obj
def list_views(session: Session) -> None:
    """List the views of all services, and which of them are being made anew."""
    views = [view for process in sorted(session.endpoints.grpc) for view in _views(session, process)]
    session.show({"views": [plain(view) for view in views]}, lambda out: _print(out, views))


@REBUILD.verb("show", "traceability.dossier", "traceability.dossier --watch", watched=True)
@click.argument("view", type=VIEW)
@click.pass_obj
def show(session: Session, view: str) -> None:
    """Show how far the rebuild of VIEW is; exit status 1 when it has stopped."""
    found = one_view(session, view)
    session.show({"view": plain(found)}, lambda out: _print(out, [found]))
    _check(found)


@REBUILD.verb("start", "traceability.dossier", "traceability.dossier --no-wait")
@click.argument("view", type=VIEW)
@click.option("--no-wait", is_flag=True, help="Return once it has begun.")
@click.pass_obj
def start(session: Session, view: str, no_wait: bool) -> None:
    """Make VIEW anew from the log, beside the one that answers, and wait until it has taken its place."""
    _begin(session, view, no_wait)


@REBUILD.verb("cancel", "traceability.dossier")
@click.argument("view", type=VIEW)
@click.pass_obj
def cancel(session: Session, view: str) -> None:
    """Give the rebuild of VIEW up; the view that answers stays."""
    request = api.CancelRebuildRequest(request_id=new_id(), view=own(view))
    answer = session.call(session.operations_of(process_of(view)).CancelRebuild, request)
    answer.view.view = view
    session.show({"view": plain(answer.view)}, lambda out: out.print(f"given up: {view}"))


# -- seeing ---------------------------------------------------------------


def _views(session: Session, process: str) -> list[api.View]:
    """The views of a process, under the names that they have here."""
    found = list(session.call(session.operations_of(process).ListViews, api.ListViewsRequest()).views)
    for view in found:
        view.view = known_as(process, view.view)
    return found


def one_view(session: Session, name: str) -> api.View:
    """How a view is; Failure where there is none of the name."""
    views = _views(session, process_of(name))
    for view in views:
        if view.view == name:
            return view
    known = ", ".join(view.view for view in views) or "none"
    raise Missing(f"there is no view {name!r}; those of {process_of(name)} are: {known}")


def _print(out: Console, views: list[api.View]) -> None:
    rows = [
        [
            view.view,
            f"{view.total:,}",
            (view.phase or "being made") if view.building else "-",
            f"{_share(view):.0%}" if view.building else "-",
            f"{view.state}  {view.detail}".strip() or "-",
        ]
        for view in views
    ]
    out.print(table("Views", ["view", "records", "rebuild", "done", "remark"], rows))


def _share(view: api.View) -> float:
    return min(1.0, view.done / view.total) if view.total else 1.0


def _check(view: api.View) -> None:
    if view.building and view.state == _FAILED:
        raise Ended(
            f"the rebuild of {view.view} has stopped: {view.detail}\n"
            "The view that answers is untouched; "
            f"'pharmaloop rebuild cancel {view.view}' gives the rebuild up."
        )


# -- making ---------------------------------------------------------------


@dataclass(frozen=True)
class Made:
    """A rebuild that came to its end."""

    view: api.View
    seconds: float

    @property
    def rate(self) -> float:
        return self.view.total / self.seconds if self.seconds else 0.0

    def document(self) -> dict[str, Any]:
        return {
            "view": plain(self.view),
            "records": self.view.total,
            "seconds": round(self.seconds, 3),
            "records_per_second": round(self.rate, 1),
        }

    def told(self) -> str:
        return f"done, {self.view.total:,} records in {self.seconds:.1f} s, {self.rate:,.0f} records/s"


def _begin(session: Session, name: str, no_wait: bool) -> None:
    began = time.monotonic()
    request = api.RebuildViewRequest(request_id=new_id(), view=own(name))
    begun = session.call(session.operations_of(process_of(name)).RebuildView, request).view
    begun.view = name
    if no_wait:
        told = f"begun: {name}; 'pharmaloop rebuild show {name}' shows how far it is"
        session.show({"view": plain(begun)}, lambda out: out.print(told))
        return
    try:
        with _progress(session) as bar:
            view = _follow(session, begun, _mover(bar, name))
    except KeyboardInterrupt:
        raise Ended(
            f"the rebuild of {name} goes on without you; 'pharmaloop rebuild show' tells how far it is, "
            "'pharmaloop rebuild cancel' gives it up"
        ) from None
    made = Made(view, time.monotonic() - began)
    session.show(made.document(), lambda out: out.print(made.told()))


def _progress(session: Session) -> AbstractContextManager[Progress | None]:
    """A bar on a terminal; nothing that a program would stumble over."""
    console = Console(stderr=True)
    if session.as_json or not console.is_terminal:
        return nullcontext(None)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:,.0f} records/s"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )


def _mover(bar: Progress | None, name: str) -> Callable[[api.View], None]:
    if bar is None:
        return lambda view: None
    task = bar.add_task(name, total=None, rate=0.0)
    began = time.monotonic()

    def move(view: api.View) -> None:
        rate = view.done / max(time.monotonic() - began, 0.001)
        bar.update(task, completed=view.done, total=max(view.total, view.done, 1), rate=rate)

    return move


def _follow(session: Session, begun: api.View, move: Callable[[api.View], None]) -> api.View:
    """Ask until the rebuild is over; the view as it is then."""
    heard = time.monotonic()
    while True:
        try:
            view = one_view(session, begun.view)
        except Failure:
            if time.monotonic() - heard > _SILENT_SECONDS:
                raise
            time.sleep(_POLL_SECONDS)
            continue
        heard = time.monotonic()
        if view.live >= begun.building:
            return view
        if view.building != begun.building:
            raise Ended(f"the rebuild of {begun.view} was given up; the view that answers is untouched")
        _check(view)
        move(view)
        time.sleep(_POLL_SECONDS)
