"""Every page of the portal has its picture in the documentation."""

from __future__ import annotations

from pathlib import Path

from services.portal import render
from tests.ui.gallery import SHOTS, listing

_TEMPLATES = Path(render.__file__).parent / "templates"
#: What nobody can bring about at will: a service that is away, a fault of the portal.
_NO_PICTURE = {"broken", "missing"}


def test_every_page_has_a_picture() -> None:
    pages = {one.stem for one in _TEMPLATES.glob("*.html") if '{% extends "base.html" %}' in one.read_text()}
    assert {shot.template or shot.name for shot in SHOTS} == pages - _NO_PICTURE


def test_each_picture_has_a_name_and_a_row_of_its_own() -> None:
    names = [shot.name for shot in SHOTS]
    assert len(set(names)) == len(names)
    rows = listing({shot.name: shot.title for shot in SHOTS}).splitlines()
    for name in names:
        assert [row for row in rows if f"({name}.zh.webp)" in row and f"({name}.en.webp)" in row] != []
