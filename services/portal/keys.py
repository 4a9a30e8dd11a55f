"""A lot's key in the address of a page: its four parts, so that what follows them is no part of it."""

from __future__ import annotations

from starlette.convertors import Convertor, register_url_convertor


class _Key(Convertor[str]):
    regex = "[^/]+/[^/]+/[^/]+/[^/]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("lot", _Key())
#: The path of one lot; `key` is its canonical key.
LOT = "/lots/{key:lot}"
