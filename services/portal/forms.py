"""Forms for what the contract has many fields of: what was typed, what it says, and what is wrong with it.

A field stands in a form under its path in the contract ("process.vessel.volume_m3"); a field of a row has
the row's number in it ("parameters.0.set_point"). So a refusal, which names a path, leads to its field.
Rows that are left empty are not sent. Without JavaScript a button asks the portal for more of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from starlette.datastructures import FormData

from services.portal.languages import Language
from services.portal.words import N_

#: Empty rows behind those that have something, and how many more a button adds.
_SPARE, _MORE = 3, 5
_MOST_WHOLE, _MOST_LONG = 2**31 - 1, 2**53 - 1
_WHAT = {
    "number": N_("“%(typed)s” is no number; write digits, with a point before the decimals."),
    "whole": N_("“%(typed)s” is no whole number."),
    "long": N_("“%(typed)s” is no whole number."),
    "moment": N_("“%(typed)s” is no moment; write it as 2026-01-31 or 2026-01-31 14:30."),
    "wholes": N_("“%(typed)s” are no whole numbers; write them with commas between them."),
    "weights": N_("“%(typed)s” is no list of factors; write one a line, as feed_rate = 2.5."),
}
_REQUIRED = N_("Fill this in.")


@dataclass(frozen=True)
class Entry:
    """One field; `path` is the contract's, from its group on.

    `kind` is "text", "words" (more than a line), "number", "whole" (of 32 bits), "long" (whole, up to 2^53),
    "moment", "pick" (one), "enum" (one, of the contract's numbers), "ticks" and "enums" (any), "tick" (yes or
    no), "lines" (a list, one a line), "wholes" (a list of whole numbers) or "weights" (a number by name, one
    a line).
    """

    path: str
    label: str
    kind: str = "text"
    required: bool = False
    help: str = ""
    #: UCUM unit, read behind the label.
    unit: str = ""
    #: For "pick", "enum", "ticks", "enums": value and what is read, in the reader's language.
    options: tuple[tuple[str, str], ...] = ()
    #: For "text": what is known of it, offered while one types.
    known: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Group:
    """Fields that stand together; with `rows`, the path of a list whose every item has them all."""

    title: str
    entries: tuple[Entry, ...]
    rows: str = ""
    help: str = ""


@dataclass(frozen=True)
class Wrong:
    """What is wrong with the field of this name; of the form as a whole where it is empty.

    `foreign` is True for a service's sentence, which is English in every language; `reason` is its rule.
    """

    key: str
    label: str
    sentence: str
    foreign: bool = False
    reason: str = ""


#: What stands in a form: texts by the field's name.
Typed = Mapping[str, Sequence[str]]


def typed(form: FormData) -> dict[str, list[str]]:
    """What was typed; files are none of it."""
    return {name: [one for one in form.getlist(name) if isinstance(one, str)] for name in form}


@dataclass(frozen=True)
class Read:
    """What a form says: the fields of a message, what is wrong with it, and which row is which item."""

    fields: dict[str, Any]
    wrong: list[Wrong]
    rows: dict[str, list[int]] = field(default_factory=dict)


def read(groups: Iterable[Group], said: Typed, language: Language) -> Read:
    """The message's fields, nested as its messages are; what is left empty is left out."""
    found = Read({}, [])
    for group in groups:
        if group.rows:
            _read_rows(group, said, language, found)
        else:
            for entry in group.entries:
                _read_one(entry, entry.path, _label(language, entry), said, language, found, found.fields)
    return found


def _read_rows(group: Group, said: Typed, language: Language, found: Read) -> None:
    items: list[dict[str, Any]] = []
    kept: list[int] = []
    for number in rows_of(group, said):
        if not _full(group, said, number):
            continue
        item: dict[str, Any] = {}
        for entry in group.entries:
            key = f"{group.rows}.{number}.{entry.path}"
            label = _row_label(language, group, number, entry)
            _read_one(entry, key, label, said, language, found, item)
        items.append(item)
        kept.append(number)
    if items:
        _put(found.fields, group.rows, items)
    found.rows[group.rows] = kept


def _read_one(
    entry: Entry, key: str, label: str, said: Typed, language: Language, found: Read, into: dict[str, Any]
) -> None:
    values = [one.strip() for one in said.get(key, ()) if one.strip()]
    if not values:
        if entry.required:
            found.wrong.append(Wrong(key, label, language.say(_REQUIRED)))
        return
    try:
        value = _value(entry, values, language)
    except (ValueError, OverflowError):
        sentence = _WHAT.get(entry.kind, _REQUIRED)
        told = language.say(sentence, typed=values[0][:80]) if entry.kind in _WHAT else language.say(sentence)
        found.wrong.append(Wrong(key, label, told))
        return
    _put(into, entry.path, value)


def _value(entry: Entry, values: Sequence[str], language: Language) -> Any:
    """What was typed as the contract's value. Raises ValueError for what is none."""
    first = values[0]
    if entry.kind == "moment":
        return _moment(first, language.zone)
    if entry.kind in ("pick", "enum", "enums"):
        values = [_offered(entry, one) for one in values]
    if entry.kind in ("enums", "ticks"):
        return [_whole(one) for one in values] if entry.kind == "enums" else list(values)
    return _READ.get(entry.kind, str)(first)


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value) or "_" in text:
        raise ValueError(text)
    return value


def _whole(text: str, most: int = _MOST_WHOLE) -> int:
    value = int(text)
    if abs(value) > most or "_" in text:
        raise ValueError(text)
    return value


def _long(text: str) -> int:
    return _whole(text, _MOST_LONG)


def _offered(entry: Entry, value: str) -> str:
    if value not in {one for one, _ in entry.options}:
        raise ValueError(value)
    return value


def _weight(line: str) -> tuple[str, float]:
    name, sign, number = line.partition("=")
    if not sign or not name.strip():
        raise ValueError(line)
    return name.strip(), _number(number.strip())


def _split(text: str, by: str) -> list[str]:
    return [one.strip() for one in re.split(by, text) if one.strip()]


_READ: Mapping[str, Callable[[str], Any]] = {
    "number": _number,
    "whole": _whole,
    "long": _long,
    "enum": _whole,
    "tick": bool,
    "lines": lambda text: _split(text, r"\n"),
    "wholes": lambda text: [_whole(one) for one in _split(text, r"[\s,;，；、]+")],
    "weights": lambda text: dict(_weight(one) for one in _split(text, r"[\n,;，；]")),
}


def _moment(text: str, zone: str) -> Timestamp:
    """A moment, or the beginning of a day, where the reader is."""
    told = datetime.fromisoformat(text)
    made = Timestamp()
    made.FromDatetime((told if told.tzinfo else told.replace(tzinfo=ZoneInfo(zone))).astimezone(UTC))
    return made


def _put(tree: dict[str, Any], path: str, value: Any) -> None:
    *above, last = path.split(".")
    for name in above:
        tree = tree.setdefault(name, {})
    tree[last] = value


# -- what is on record, as a form ------------------------------------------------


def written(groups: Iterable[Group], message: Message, language: Language) -> dict[str, list[str]]:
    """A message as it would have been typed. Numbers read back to the last digit, moments to the second."""
    found: dict[str, list[str]] = {}
    for group in groups:
        if not group.rows:
            found |= _written(group.entries, message, "", language)
            continue
        held = _held(message, group.rows)
        for number, item in enumerate(held or ()):
            found |= _written(group.entries, item, f"{group.rows}.{number}.", language)
    return found


def _written(
    entries: Iterable[Entry], message: Message, before: str, language: Language
) -> dict[str, list[str]]:
    found = {}
    for entry in entries:
        value = _held(message, entry.path)
        if value is not None:
            found[before + entry.path] = _texts(entry, value, language)
    return found


def _held(message: Any, path: str) -> Any:
    """The value at a path; None where it, or what it is in, is not there."""
    for name in path.split("."):
        known = message.DESCRIPTOR.fields_by_name.get(name)
        if known is None or (known.has_presence and not message.HasField(name)):
            return None
        message = getattr(message, name)
    return message


def _texts(entry: Entry, value: Any, language: Language) -> list[str]:
    if entry.kind == "moment":
        there = value.ToDatetime(UTC).astimezone(ZoneInfo(language.zone))
        return [there.replace(tzinfo=None, microsecond=0).isoformat()]
    if entry.kind in ("enums", "ticks"):
        return [str(one) for one in value]
    told = _WRITTEN.get(entry.kind, str)(value)
    return [told] if told else []


def _digits(value: float) -> str:
    return repr(float(value)).removesuffix(".0")


_WRITTEN: Mapping[str, Callable[[Any], str]] = {
    "number": _digits,
    "whole": lambda value: str(value) if value else "",
    "enum": lambda value: str(value) if value else "",
    "tick": lambda value: "yes" if value else "",
    "lines": "\n".join,
    "wholes": lambda value: ", ".join(map(str, value)),
    "weights": lambda value: "\n".join(f"{name} = {_digits(value[name])}" for name in sorted(value)),
}


# -- how it is drawn ---------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """A field with what stands in it; `label` is whole, also where it is a cell of a table."""

    entry: Entry
    key: str
    label: str
    values: tuple[str, ...]
    wrong: tuple[Wrong, ...]

    @property
    def value(self) -> str:
        return self.values[0] if self.values else ""

    @property
    def lines(self) -> int:
        """How many lines a field of many shows."""
        return min(max(3, self.value.count("\n") + 1), 24)


@dataclass(frozen=True)
class Part:
    """A group with its fields, in rows where it has some."""

    group: Group
    cells: tuple[Cell, ...]
    table: tuple[tuple[Cell, ...], ...]


def drawn(groups: Iterable[Group], said: Typed, wrong: Sequence[Wrong], language: Language) -> list[Part]:
    """The form with what was typed and what is wrong with it, each at its field."""
    at: dict[str, list[Wrong]] = {}
    for one in wrong:
        at.setdefault(one.key, []).append(one)

    def cell(entry: Entry, key: str, label: str) -> Cell:
        return Cell(entry, key, label, tuple(said.get(key, ())), tuple(at.get(key, ())))

    parts = []
    for group in groups:
        if not group.rows:
            cells = tuple(cell(one, one.path, _label(language, one)) for one in group.entries)
            parts.append(Part(group, cells, ()))
            continue
        table = tuple(
            tuple(
                cell(one, f"{group.rows}.{number}.{one.path}", _row_label(language, group, number, one))
                for one in group.entries
            )
            for number in _shown(group, said)
        )
        parts.append(Part(group, (), table))
    return parts


def rows_of(group: Group, said: Typed) -> list[int]:
    """The numbers of the rows that a form has."""
    of = re.compile(rf"{re.escape(group.rows)}\.(\d{{1,4}})\.")
    return sorted({int(found[1]) for found in map(of.match, said) if found})


def _shown(group: Group, said: Typed) -> list[int]:
    """The rows of a form, with empty ones at the end, and more where the button asked for them."""
    there = rows_of(group, said)
    full = [number for number in there if _full(group, said, number)]
    empty = len([number for number in there if not full or number > full[-1]])
    more = _MORE if group.rows in said.get("more", ()) else max(0, _SPARE - empty)
    following = there[-1] + 1 if there else 0
    return [*there, *range(following, following + more)]


def _full(group: Group, said: Typed, number: int) -> bool:
    """Was something typed into the row?"""
    keys = (f"{group.rows}.{number}.{one.path}" for one in group.entries)
    return any(one.strip() for key in keys for one in said.get(key, ()))


def _label(language: Language, entry: Entry) -> str:
    return language.say(entry.label) + (f" [{entry.unit}]" if entry.unit else "")


def _row_label(language: Language, group: Group, number: int, entry: Entry) -> str:
    return language.say(
        "%(group)s, row %(number)s: %(field)s",
        group=language.say(group.title),
        number=number + 1,
        field=_label(language, entry),
    )


# -- what a service refused ----------------------------------------------------------


def refusals(
    groups: Sequence[Group],
    violations: Iterable[tuple[str, str, str]],
    found: Read,
    language: Language,
    above: str,
) -> list[Wrong]:
    """Refusals at their fields. `above` stands before the paths of this form in a request, as "content."."""
    labels: dict[str, str] = {}
    for group in groups:
        if group.rows:
            for number in [*found.rows.get(group.rows, []), 0]:
                for one in group.entries:
                    label = _row_label(language, group, number, one)
                    labels.setdefault(f"{group.rows}.{number}.{one.path}", label)
        else:
            labels |= {one.path: _label(language, one) for one in group.entries}
    made = []
    for path, sentence, reason in violations:
        key = _key(path.removeprefix(above), found.rows, labels)
        made.append(Wrong(key, labels.get(key, path), sentence, foreign=True, reason=reason))
    return made


def _key(path: str, rows: Mapping[str, list[int]], labels: Mapping[str, str]) -> str:
    """The field of a path; the first one below it, else the nearest above it; empty where there is none."""
    for name, kept in rows.items():
        item = re.match(rf"{re.escape(name)}\[(\d+)\]", path)
        if item and int(item[1]) < len(kept):
            path = f"{name}.{kept[int(item[1])]}{path[item.end() :]}"
    path = re.sub(r"\[[^\]]*\]", "", path)
    while path:
        if path in labels:
            return path
        below = next((key for key in labels if key.startswith(f"{path}.")), "")
        if below:
            return below
        path = path.rpartition(".")[0]
    return ""
