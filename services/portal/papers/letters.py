"""Letters on paper: which font writes them, how wide they are, and where a line may be broken.

Nothing is embedded: Helvetica is one of the fourteen fonts of every reader of PDF, and STSong-Light of
Adobe's GB1 collection is replaced by the reader's own Chinese font. What neither of them has (Hebrew,
emoji, signs that turn the direction of writing) is shown as a square, so that it is seen to be missing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from itertools import groupby
from typing import NamedTuple

from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont

LATIN, BOLD, CHINESE = "Helvetica", "Helvetica-Bold", "STSong-Light"
#: What stands for a letter that no font has. It is in GB 2312, so every Chinese font has it.
NO_GLYPH = "□"
#: Where a word is longer than a line, it may end behind these, the first kind first.
_HYPHENS, _BREAKS = frozenset("-"), frozenset("/-_:;,.|=&")
#: Stands between letters that stay together, and is not drawn (U+2060); a space that does not break.
GLUE, FIXED_SPACE = "\u2060", "\u00a0"
#: Chinese marks that no line begins with.
_NEVER_FIRST = frozenset("，。、；：！？）》」』】”’…,.;:!?)]}")
_FIRST_CHINESE = 0x2E80

pdfmetrics.registerFont(UnicodeCIDFont(CHINESE))


@cache
def font_of(letter: str) -> str:
    """The font that writes a letter; empty when none does. "\\n" is no letter."""
    if letter == FIXED_SPACE:
        return LATIN
    if letter.isprintable():
        for font, code in ((LATIN, "cp1252"), (CHINESE, "gbk")):
            try:
                letter.encode(code)
            except UnicodeEncodeError:
                continue
            return font
    return ""


def written(text: str) -> str:
    """The text with a square for each letter that cannot be written; line breaks and spaces are kept."""
    plain = text.replace("\r\n", "\n")
    return plain if plain.isascii() and plain.isprintable() else "".join(map(_shown, plain))


@cache
def _shown(letter: str) -> str:
    if letter in ("\n", GLUE) or font_of(letter):
        return letter
    if letter == "\u202f":  # the narrow one, which moments in English have
        return FIXED_SPACE
    return " " if letter.isspace() else NO_GLYPH


@cache
def _width(letter: str, bold: bool) -> float:
    if letter == GLUE:
        return 0.0
    font = font_of(letter)
    return float(pdfmetrics.stringWidth(letter, BOLD if bold and font == LATIN else font, 1))


def width(text: str, size: float, bold: bool = False) -> float:
    """How wide written text is at a size, both in points."""
    return size * sum(_width(letter, bold) for letter in text)


def runs(text: str, bold: bool = False) -> list[tuple[str, str]]:
    """Written text in parts of one font each."""
    drawn = text.replace(GLUE, "").replace(FIXED_SPACE, " ")
    found = ((font, "".join(part)) for font, part in groupby(drawn, font_of))
    return [(BOLD if bold and font == LATIN else font, part) for font, part in found]


def whole(text: str) -> str:
    """The text as one word, which no line breaks where another line has room for it."""
    return GLUE.join(text.replace(" ", FIXED_SPACE))


def lines(text: str, room: float, size: float, bold: bool = False) -> list[str]:
    """Written text in lines of at most `room` points; one line at least."""
    found: list[str] = []
    for part in text.split("\n"):
        found += _broken(part, room / size, bold)
    return found


class Widths(NamedTuple):
    """How wide a text is at size 1: its widest word broken at hyphens, its widest word, its longest line."""

    hyphened: float
    word: float
    line: float


@lru_cache(maxsize=50_000)
def widths(text: str, bold: bool = False) -> Widths:
    """Of written text."""
    found = Widths(0.0, 0.0, 0.0)
    for part in text.split("\n"):
        words = _words(part, bold)
        for word in words:
            pieces = _parted(word.text, _HYPHENS)
            hyphened = max(_measured(piece, bold) for piece in pieces) if len(pieces) > 1 else word.bare
            found = Widths(max(found.hyphened, hyphened), max(found.word, word.bare), found.line)
        found = found._replace(line=max(found.line, sum(word.wide for word in words)))
    return found


class _Word(NamedTuple):
    """A word with the spaces behind it, and how wide it is at size 1 with and without these."""

    text: str
    wide: float
    bare: float


@lru_cache(maxsize=50_000)
def _words(text: str, bold: bool) -> tuple[_Word, ...]:
    found = _split(text, _may_break)
    return tuple(_Word(one, _measured(one, bold), _measured(one.rstrip(" "), bold)) for one in found)


def _measured(text: str, bold: bool) -> float:
    return sum(_width(letter, bold) for letter in text)


def _split(text: str, may: Callable[[str, str], bool]) -> list[str]:
    """The text in parts, between which it may be broken."""
    found, start = [], 0
    for place in range(1, len(text)):
        if may(text[place - 1], text[place]):
            found.append(text[start:place])
            start = place
    return [*found, text[start:]]


def _parted(word: str, behind: frozenset[str]) -> list[str]:
    """A word in parts behind these; a number is not broken, nor is a sign left alone at its beginning."""
    if GLUE in word:
        return [word]

    def may(before: str, after: str) -> bool:
        return before in behind and after not in _NEVER_FIRST and not (before in ",.:" and after.isdigit())

    head = word[:1]
    return [head + part if place == 0 else part for place, part in enumerate(_split(word[1:], may))]


def _broken(text: str, room: float, bold: bool) -> list[str]:
    """Words in lines. One that is longer than a line is broken behind its hyphens, then its other signs, and
    anywhere where that does not do."""
    found: list[str] = []
    line, used = "", 0.0
    for word in _words(text, bold):
        if used + word.bare <= room:
            line, used = line + word.text, used + word.wide
            continue
        if line:
            found.append(line.rstrip())
        *full, line = _pieces(word.text, room, bold)
        found += full
        used = _measured(line, bold)
    found.append(line.rstrip())
    return found


def _pieces(word: str, room: float, bold: bool) -> list[str]:
    """A word in lines of its own."""
    for behind in (_HYPHENS, _BREAKS):
        parts = _parted(word, behind)
        if all(_measured(part.rstrip(), bold) <= room for part in parts):
            break
    else:
        parts = [letter for part in parts for letter in part]
    found = [""]
    used = 0.0
    for part in parts:
        wide = _measured(part.rstrip(), bold)
        if found[-1] and used + wide > room:
            found.append("")
            used = 0.0
        found[-1] += part
        used += _measured(part, bold)
    return found


def _may_break(before: str, after: str) -> bool:
    if after in _NEVER_FIRST or after == " " or GLUE in (before, after):
        return False
    return before == " " or ord(before) >= _FIRST_CHINESE or ord(after) >= _FIRST_CHINESE
