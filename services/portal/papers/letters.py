"""Letters on paper: which font writes them, how wide they are, and where a line may be broken.

Nothing is embedded: Helvetica is one of the fourteen fonts of every reader of PDF, and STSong-Light of
Adobe's GB1 collection is replaced by the reader's own Chinese font. What neither of them has (Hebrew,
emoji, signs that turn the direction of writing) is shown as a square, so that it is seen to be missing.
"""

from __future__ import annotations

from functools import cache
from itertools import groupby

from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont

LATIN, BOLD, CHINESE = "Helvetica", "Helvetica-Bold", "STSong-Light"
#: What stands for a letter that no font has. It is in GB 2312, so every Chinese font has it.
NO_GLYPH = "□"
#: A line may end behind these: keys and ids have no spaces.
_BREAKS = frozenset(" /-_:;,.|=&")
#: Chinese marks that no line begins with.
_NEVER_FIRST = frozenset("，。、；：！？）》」』】”’…,.;:!?)]}")
_FIRST_CHINESE = 0x2E80

pdfmetrics.registerFont(UnicodeCIDFont(CHINESE))


@cache
def font_of(letter: str) -> str:
    """The font that writes a letter; empty when none does. "\\n" is no letter."""
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
    if letter == "\n" or font_of(letter):
        return letter
    return " " if letter.isspace() else NO_GLYPH


@cache
def _width(letter: str, bold: bool) -> float:
    font = font_of(letter)
    return float(pdfmetrics.stringWidth(letter, BOLD if bold and font == LATIN else font, 1))


def width(text: str, size: float, bold: bool = False) -> float:
    """How wide written text is at a size, both in points."""
    return size * sum(_width(letter, bold) for letter in text)


def runs(text: str, bold: bool = False) -> list[tuple[str, str]]:
    """Written text in parts of one font each."""
    found = ((font, "".join(part)) for font, part in groupby(text, font_of))
    return [(BOLD if bold and font == LATIN else font, part) for font, part in found]


def lines(text: str, room: float, size: float, bold: bool = False) -> list[str]:
    """Written text in lines of at most `room` points; one line at least."""
    found: list[str] = []
    for part in text.split("\n"):
        found += _broken(part, room / size, bold)
    return found


def _broken(text: str, room: float, bold: bool) -> list[str]:
    """Breaks behind the last place that may end a line, and in a word that is longer than a line."""
    found: list[str] = []
    start, last, used = 0, 0, 0.0
    for place, letter in enumerate(text):
        if place > start and _may_break(text[place - 1], letter):
            last = place
        wide = _width(letter, bold)
        if used + wide > room and place > start and letter != " ":
            end = last if last > start else place
            found.append(text[start:end].rstrip())
            start = end
            used = sum(_width(one, bold) for one in text[start:place])
        used += wide
    found.append(text[start:].rstrip())
    return found


def _may_break(before: str, after: str) -> bool:
    if after in _NEVER_FIRST or after == " ":
        return False
    return before in _BREAKS or ord(before) >= _FIRST_CHINESE or ord(after) >= _FIRST_CHINESE
