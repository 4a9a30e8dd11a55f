"""Where a reader is, and where a form may lead."""

from __future__ import annotations

from urllib.parse import quote

from fastapi import Request


def here(request: Request) -> str:
    """The address of this page as it was asked, with its query; what is percent-encoded stays so."""
    path: str = (request.scope.get("raw_path") or request.url.path.encode()).decode()
    return path + (f"?{request.url.query}" if request.url.query else "")


def inside(to: str) -> str:
    """A place of this portal; anything else is its first page."""
    return to if to.startswith("/") and not to.startswith(("//", "/\\")) else "/"


def path_of(*parts: str) -> str:
    """A path of the portal; a lot key with its slashes is one part."""
    return "/" + "/".join(quote(part, safe="") for part in parts)
