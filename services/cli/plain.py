"""Protobuf messages as plain JSON values: numbers stay numbers, moments are ISO text, enums their names."""

from __future__ import annotations

from datetime import UTC
from typing import Any

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp


def plain(message: Message) -> dict[str, Any]:
    """Every field of a message; a field that was left out is null."""
    return {field.name: _field(message, field) for field in message.DESCRIPTOR.fields}


def _field(message: Message, field: Any) -> Any:
    value: Any = getattr(message, field.name)
    if _is_map(field):
        item = field.message_type.fields_by_name["value"]
        return {str(key): _value(value[key], item) for key in sorted(value)}
    if field.is_repeated:
        return [_value(item, field) for item in value]
    if field.has_presence and not message.HasField(field.name):
        return None
    return _value(value, field)


def _is_map(field: Any) -> bool:
    return bool(field.message_type and field.message_type.GetOptions().map_entry)


def _value(value: Any, field: Any) -> Any:
    if isinstance(value, Timestamp):
        return iso(value)
    if isinstance(value, Message):
        return plain(value)
    if isinstance(value, bytes):
        return value.hex()
    if field.enum_type:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known else value
    return value


def word(name: str, prefix: str) -> str:
    """The name of an enum's value for people: `LOT_STATE_HELD` of `LOT_STATE` is "held"."""
    return str(name).removeprefix(f"{prefix}_").lower()


def iso(stamp: Timestamp) -> str | None:
    """A moment as ISO text; null for none."""
    if not stamp.seconds and not stamp.nanos:
        return None
    return stamp.ToDatetime(UTC).isoformat(timespec="milliseconds")


def brief(moment: str | None) -> str:
    """A moment of a document for a table in UTC, to the second; a dash for none."""
    return moment[:19].replace("T", " ") if moment else "-"
