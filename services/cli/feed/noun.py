"""A noun: what can be fed, as one declaration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from services.cli.feed.columns import Column, Layout, Values
from services.cli.session import Session


@dataclass(frozen=True)
class Noun:
    """Rows of which each is one fact.

    `message` makes the fact of a row (Invalid names the column at fault);
    `request` the request for many of them, from its id, what they share, and the
    facts; `method` is the call that takes it (of a site: that site's) and answers with a FactReceipt.
    `shared` is the column whose value all facts of one request share.
    """

    name: str
    tells: str
    columns: tuple[Column, ...]
    message: Callable[[Values, Layout], Message]
    request: Callable[[str, str, Sequence[Any]], Message]
    method: Callable[[Session, str], Callable[..., Any]]
    shared: str = ""
