"""What differs between two contents, by path.

A list of named things is compared by name, not by place: who adds a parameter
at the top has changed one thing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from google.protobuf.message import Message

from pharmaloop.rnd.v1 import parameter_set_pb2 as content

#: The field by which the items of a list are called.
_NAMES = {
    content.QualityTarget.DESCRIPTOR.full_name: "attribute",
    content.QualityAttribute.DESCRIPTOR.full_name: "attribute",
    content.ProcessParameter.DESCRIPTOR.full_name: "parameter",
}


class Difference(NamedTuple):
    """A path, and what stands there before and after; None where nothing does."""

    path: str
    before: str | None
    after: str | None


def differences(
    before: content.ParameterSetContent, after: content.ParameterSetContent
) -> tuple[Difference, ...]:
    """What differs, in order of path."""
    old, new = dict(_leaves(before, "")), dict(_leaves(after, ""))
    paths = sorted(old.keys() | new.keys())
    return tuple(
        Difference(path, old.get(path), new.get(path)) for path in paths if old.get(path) != new.get(path)
    )


def _leaves(message: Message, path: str) -> Iterator[tuple[str, str]]:
    """Every value of a message as text, with its path."""
    for field in message.DESCRIPTOR.fields:
        here = f"{path}.{field.name}" if path else field.name
        value: Any = getattr(message, field.name)
        if field.message_type and field.message_type.GetOptions().map_entry:
            yield from ((f"{here}[{key}]", repr(value[key])) for key in value)
        elif field.is_repeated:
            yield from _items(value, here)
        elif field.message_type:
            if message.HasField(field.name):
                yield from _leaves(value, here)
        elif field.has_presence and not message.HasField(field.name):
            continue
        elif field.enum_type:
            known = field.enum_type.values_by_number.get(value)
            yield here, known.name if known else str(value)
        else:
            yield here, value if isinstance(value, str) else repr(value)


def _items(values: Any, path: str) -> Iterator[tuple[str, str]]:
    for number, item in enumerate(values):
        name = _NAMES.get(item.DESCRIPTOR.full_name)
        place = getattr(item, name) if name else str(number)
        yield from _leaves(item, f"{path}[{place}]")
