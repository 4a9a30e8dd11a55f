"""The name that stands under what one decides, as the browser keeps it for a day."""

from __future__ import annotations

from urllib.parse import quote

from fastapi.responses import Response

_DAY = 24 * 3600
#: The longest name, in characters.
MOST = 200


def clean(name: str) -> str:
    """A name without needless space; empty where it is none."""
    told = " ".join(name.split())
    return told if len(told) <= MOST else ""


def keep(answer: Response, name: str) -> None:
    """The browser tells this name from now on."""
    answer.set_cookie("actor", quote(name), max_age=_DAY, samesite="lax", httponly=True)
