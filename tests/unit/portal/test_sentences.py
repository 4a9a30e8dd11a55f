"""Every sentence of the portal is in both languages: those in templates, in code, and the words of states."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from babel.messages.extract import extract
from jinja2.ext import babel_extract

from services.portal import render
from services.portal.languages import CHINESE, LOCALES, catalogue
from services.portal.words import WORDS

_ROOT = render.ROOT
_PLACE = re.compile(r"%\((\w+)\)s")


def _of_templates() -> set[str]:
    found: set[str] = set()
    for file in sorted((_ROOT / "templates").glob("*.html")):
        with file.open("rb") as source:
            for _, function, text, _ in babel_extract(source, ["_"], [], {"extensions": "jinja2.ext.do"}):
                assert function == "_"
                if text is not None:  # what is not a literal is a word or a place, which are looked at below
                    found |= {text} if isinstance(text, str) else {one for one in text if one}
    return found


def _of_code() -> set[str]:
    found: set[str] = set()
    for file in sorted(_ROOT.rglob("*.py")):
        with file.open("rb") as source:
            for _, text, _, _ in extract("python", source, keywords={"say": None, "N_": None}):
                found |= {one for one in ([text] if isinstance(text, str) else text) if one}
    return found


def _sentences() -> set[str]:
    places = {name for _, name in render.PLACES}
    return _of_templates() | _of_code() | set(WORDS.values()) | places


def test_no_sentence_is_without_its_chinese() -> None:
    assert len(_sentences()) > 50
    assert sorted(_sentences() - set(catalogue(CHINESE))) == []


def test_no_chinese_is_of_a_sentence_that_nobody_says() -> None:
    assert sorted(set(catalogue(CHINESE)) - _sentences()) == []


def test_a_sentence_has_the_same_places_in_both_languages() -> None:
    for english, chinese in catalogue(CHINESE).items():
        assert sorted(_PLACE.findall(english)) == sorted(_PLACE.findall(chinese)), english


def test_the_chinese_is_chinese() -> None:
    plain = [one for one, told in catalogue(CHINESE).items() if one == told and not one.isupper()]
    assert [one for one in plain if re.search(r"[a-z]{4}", one)] == []


@pytest.mark.parametrize("file", sorted(LOCALES.rglob("*.po")), ids=lambda file: file.stem)
def test_a_sentence_stands_in_one_catalogue(file: Path) -> None:
    own = set(re.findall(r'^msgid "(.+)"$', file.read_text(), re.MULTILINE))
    assert own
    for other in LOCALES.rglob("*.po"):
        if other != file:
            assert not own & set(re.findall(r'^msgid "(.+)"$', other.read_text(), re.MULTILINE)), other.stem
