"""A way through the model, in words: one line a move."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

from pharmaloop.traceability.v1 import events_pb2 as traceability
from services.kit.contracts import event_type
from tests.model import messages
from tests.model.configurations import MARKER
from tests.model.steps import Submits
from tests.model.world import Move

#: Fields that tell messages of one type apart.
_FIELDS = (
    "run",
    "lot",
    "dispense",
    "site",
    "version",
    "asked",
    "successor",
    "epoch",
    "n",
    "stage",
    "follows",
)
_DIFFERENCES = ("only_in_trace", "only_at_site")


def lines(way: Iterable[Move]) -> Iterator[str]:
    """The moves, numbered; runs are named in the order in which they come up."""
    runs: dict[str, str] = {}
    for number, move in enumerate(way):
        what = (
            move.what if isinstance(move.what, tuple) and not isinstance(move.what, Submits) else (move.what,)
        )
        said = ", ".join(text for part in what if (text := _said(part, runs)))
        yield f"  {number:3}. {_named(move.who, runs)} {said}".rstrip()


def _said(what: Any, runs: dict[str, str]) -> str:
    if isinstance(what, Submits):
        request = MessageToDict(Struct.FromString(what.request))
        return f"{what.method} of {_run(request['run'], runs)}, round {request['round']:.0f}"
    if not isinstance(what, int):
        return _named(str(what), runs)
    return "a marker" if what == MARKER else _message(what, runs)


def _message(number: int, runs: dict[str, str]) -> str:
    said: Any = messages.message(number)
    told = []
    for field in (*_FIELDS, *_DIFFERENCES):
        value = getattr(said, field, "")
        if value:
            text = (
                _run(value, runs)
                if field in ("run", "successor", "follows")
                else str(value).rsplit("/", 1)[-1]
            )
            told.append(f"{field} {text}")
    if isinstance(said, traceability.MaterialRecorded):
        told.append("of " + ", ".join(used.lot.rsplit("/", 1)[-1] for used in said.inputs))
    return f"{event_type(type(said)).rsplit('.', 1)[-1]}({', '.join(told)})"


def _run(name: str, runs: dict[str, str]) -> str:
    return runs.setdefault(name, f"R{len(runs) + 1}")


def _named(text: str, runs: dict[str, str]) -> str:
    for name, short in runs.items():
        text = text.replace(name, short)
    return text
