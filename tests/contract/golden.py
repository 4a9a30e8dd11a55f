"""Golden bytes: what a fully populated event of each type looked like when its type was new.

An entry is written once and never again: old records stay on their topics for
ever, and have to be read as they were meant.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypedDict

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from services.kit.contracts import contract

FILE = Path(__file__).with_name("golden.json")
_TIMESTAMP = "google.protobuf.Timestamp"
_WHOLE = {
    FieldDescriptor.CPPTYPE_INT32,
    FieldDescriptor.CPPTYPE_INT64,
    FieldDescriptor.CPPTYPE_UINT32,
    FieldDescriptor.CPPTYPE_UINT64,
}
_REAL = {FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT}


class Golden(TypedDict):
    """One sample: its bytes and what they mean."""

    hex: str
    json: dict[str, Any]


def load() -> dict[str, Golden]:
    found: dict[str, Golden] = json.loads(FILE.read_text()) if FILE.exists() else {}
    return found


def as_json(message: Message) -> dict[str, Any]:
    found: dict[str, Any] = MessageToDict(message, preserving_proto_field_name=True)
    return found


def to_bytes(message: Message) -> bytes:
    return message.SerializeToString(deterministic=True)


def missing() -> list[str]:
    """Event types without golden bytes."""
    return sorted(set(contract().classes) - set(load()))


def sample(event_type: str) -> Message:
    """An event with every field set; the same in every process."""
    message = contract().class_of(event_type)()
    _fill(message, 1)
    return message


def fill(message: Message) -> None:
    """Set every field; the same in every process."""
    _fill(message, 1)


def _fill(message: Message, salt: int) -> None:
    if message.DESCRIPTOR.full_name == _TIMESTAMP:
        stamp: Any = message
        stamp.seconds, stamp.nanos = 1_790_000_000 + salt, (123_456_000 + salt) % 10**9
        return
    fields: Any = message.DESCRIPTOR.fields
    for field in fields:
        # Of a oneof the first member stands for all: setting a second would unset it.
        if field.containing_oneof is None or field.containing_oneof.fields[0] is field:
            _set(message, field, 100 * salt + field.number)


def _set(message: Message, field: FieldDescriptor, salt: int) -> None:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        _set_map(getattr(message, field.name), field.message_type, salt)
    elif field.is_repeated:
        items = getattr(message, field.name)
        for n in (1, 2):
            if field.message_type is not None:
                _fill(items.add(), salt + n)
            else:
                items.append(_scalar(field, salt + n))
    elif field.message_type is not None:
        inner = getattr(message, field.name)
        inner.SetInParent()
        _fill(inner, salt)
    else:
        setattr(message, field.name, _scalar(field, salt))


def _set_map(entries: Any, entry: Descriptor, salt: int) -> None:
    key, value = entry.fields_by_name["key"], entry.fields_by_name["value"]
    for n in (1, 2):
        if value.message_type is not None:
            _fill(entries[_scalar(key, salt + n)], salt + n)
        else:
            entries[_scalar(key, salt + n)] = _scalar(value, salt + n)


def _scalar(field: FieldDescriptor, salt: int) -> Any:
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        is_bytes = field.type == FieldDescriptor.TYPE_BYTES
        return salt.to_bytes(8, "big") if is_bytes else f"{field.name} é药 {salt}"
    if field.enum_type is not None:
        return field.enum_type.values[-1].number
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return True
    assert field.cpp_type in _WHOLE | _REAL, field.full_name
    return salt + 0.125 if field.cpp_type in _REAL else salt % (2**31 - 1)  # deep inside, it would not fit
