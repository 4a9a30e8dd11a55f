"""Files that others wrote are those that their packages carry."""

from __future__ import annotations

import hashlib

from services.portal.render import STATIC

_VENDOR = STATIC / "vendor"


def test_every_vendored_file_is_as_it_was_taken() -> None:
    lines = (_VENDOR / "checksums.txt").read_text().splitlines()
    told = {name: digest for digest, name in (line.split() for line in lines)}
    found = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in _VENDOR.glob("*.js")}
    assert found == told
