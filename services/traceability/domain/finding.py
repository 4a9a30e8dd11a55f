"""What somebody types into one box, and by which words a thing is found.

A thing has a label for people; its first word is what is searched by its beginning: of a lot the bare lot
string, without its owner and item. Its whole id and, of a lot, its item are found too. Case does not matter.

A pack is written by its maker's number and its serial: as GS1 element string, "(01)...(10)...(21)...", as
GS1 Digital Link, ".../01/GTIN/10/LOT/21/SERIAL", as SGTIN URN (GS1 EPC Tag Data Standard), or as bare GTIN.
Serials are not kept; the GTIN and the lot are what is found of it. Digits as long as a GTIN may be a lot
string too: both are looked for, and the lot of that very name stands first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import unquote

#: Beginnings are kept up to this length; what is typed beyond it is compared with what was found.
LONGEST = 16
#: The kinds, in the order in which they are shown.
KINDS = ("lot", "deviation", "run", "capa", "transfer", "study", "dispense")
_GTIN_DIGITS = (8, 12, 13, 14)
_LOT_PARTS = 4
_LINK = re.compile(r"(?:^|/)01/([0-9]{8,14})(?:/(.*))?$")
_ELEMENTS = re.compile(r"\(([0-9]{2,4})\)([^(]*)")
_SGTIN = re.compile(r"urn:epc:id:sgtin:([0-9]{6,12})\.([0-9])([0-9]{0,6})\.[^.]+", re.IGNORECASE)
#: Digits of a GTIN-14 without its check digit: indicator, company, item.
_UNCHECKED = 13


@dataclass(frozen=True)
class Thing:
    """Something that can be found. `human` is what people call it, `exact` what it is found by whole, and
    `prefixes` what `human` begins with: both without case. `item` is a lot's item; `lot` the lot that another
    thing is about."""

    kind: str
    id: str
    human: str
    label: str
    item: str = ""
    exact: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    lot: str = ""


class Wanted(NamedTuple):
    """What is looked for: a word, and, where a pack or a product was typed, its GTIN. `item` is the word
    where it may be a bare GTIN, without the zeros that fill it up."""

    word: str
    gtin: str = ""
    item: str = ""

    @property
    def whole(self) -> tuple[str, ...]:
        """Words that may each be the whole name of a thing."""
        return (self.word, self.item) if self.item else (self.word,)


def thing(kind: str, id: str, human: str, about: str = "", item: str = "", lot: str = "") -> Thing:
    """A thing with the words that it is found by."""
    word, of_item = human.casefold(), plain_gtin(item.casefold())
    both = of_pack(of_item, word) if of_item else ""
    exact = tuple(sorted({id.casefold(), word, of_item, both} - {""}))
    begins = tuple(word[:length] for length in range(1, min(len(word), LONGEST) + 1))
    return Thing(kind, id, human, f"{human} ({about})" if about else human, of_item, exact, begins, lot)


def of_pack(gtin: str, word: str) -> str:
    """By which word the lot of a pack is found: many makers may call a lot the same."""
    return f"({gtin}) {word}"


def lot(key: str) -> Thing:
    """A lot by its canonical key."""
    owner, scheme, item, human = parts(key)
    return thing("lot", key, human, " / ".join((owner, scheme, item)), item)


def parts(key: str) -> tuple[str, str, str, str]:
    """Owner, scheme, item and bare lot string of a canonical key; of another text only the last."""
    pieces = [unquote(piece) for piece in key.split("/")]
    if len(pieces) != _LOT_PARTS:
        return "", "", "", key
    return pieces[0], pieces[1], pieces[2], pieces[3]


def plain_gtin(text: str) -> str:
    """A GTIN of any length without the zeros that fill it up; another text as it is."""
    return text.lstrip("0") if is_gtin(text) else text


def is_gtin(text: str) -> bool:
    """May the text be a GTIN of any length?"""
    return text.isascii() and text.isdigit() and len(text) in _GTIN_DIGITS


def wanted(text: str) -> Wanted:
    """What the text asks for."""
    text = text.strip()
    elements = dict(_ELEMENTS.findall(text))
    if "01" in elements:
        return Wanted(elements.get("10", "").strip().casefold(), plain_gtin(elements["01"].strip()))
    link = _LINK.search(text.partition("?")[0])
    if link:
        rest = (link[2] or "").split("/")
        said = dict(zip(rest[::2], rest[1::2], strict=False))
        return Wanted(unquote(said.get("10", "")).casefold(), plain_gtin(link[1]))
    urn = _SGTIN.fullmatch(text)
    if urn:
        digits = urn[2] + urn[1] + urn[3]
        if len(digits) == _UNCHECKED:
            return Wanted("", plain_gtin(digits + check_digit(digits)))
    word = text.casefold()
    return Wanted(word, item=plain_gtin(word) if is_gtin(word) else "")


def check_digit(digits: str) -> str:
    """The last digit of a GTIN whose others are given (GS1 General Specifications, 7.9)."""
    total = sum(int(one) * (3, 1)[place % 2] for place, one in enumerate(reversed(digits)))
    return str(-total % 10)


def fits(found: Thing, asked: Wanted) -> bool:
    """Is the thing what is looked for? Of a pack the item counts too, and the lot by its whole string."""
    if asked.gtin:
        return found.item == asked.gtin and asked.word in ("", found.human.casefold())
    return is_exact(found, asked) or found.human.casefold().startswith(asked.word)


def is_exact(found: Thing, asked: Wanted) -> bool:
    return bool(asked.gtin) or any(word in found.exact for word in asked.whole)


def place(found: Thing, asked: Wanted) -> tuple[bool, bool, int, str, str]:
    """Where it stands in the answer: what bears the very word first, then what is called so otherwise."""
    kind = KINDS.index(found.kind) if found.kind in KINDS else len(KINDS)
    own = asked.word in (found.human.casefold(), found.id.casefold())
    return not own, not is_exact(found, asked), kind, found.human.casefold(), found.id
