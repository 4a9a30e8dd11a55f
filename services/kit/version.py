"""The version of the code that runs, which is that of the partner kit made of it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def code_version() -> str:
    """The installed version; "0" where the code is not installed."""
    try:
        return version("pharmaloop")
    except PackageNotFoundError:
        return "0"
