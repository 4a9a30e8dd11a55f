"""What was written once is read for ever: the golden bytes of every event type."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.message import Message

from services.kit.contracts import contract
from tests.contract import golden

ENTRIES = golden.load()
#: Field 19,500 with two bytes, as a newer build might write it: nobody here knows it.
UNKNOWN = bytes.fromhex("e2c209026869")


def test_every_event_type_has_golden_bytes() -> None:
    assert not golden.missing(), "run: python -m tests.contract.make_golden"


def _decoded(name: str) -> Message:
    # A type that is gone from topics.yaml fails here: its records are still on their topic.
    return contract().class_of(name).FromString(bytes.fromhex(ENTRIES[name]["hex"]))


@pytest.mark.parametrize("name", ENTRIES)
def test_the_bytes_mean_what_they_meant(name: str) -> None:
    # Fields that are newer than the bytes are absent, so they do not show here.
    assert golden.as_json(_decoded(name)) == ENTRIES[name]["json"]


@pytest.mark.parametrize("name", ENTRIES)
def test_the_same_event_gives_the_same_bytes(name: str) -> None:
    assert golden.to_bytes(_decoded(name)).hex() == ENTRIES[name]["hex"]


@pytest.mark.parametrize("name", ENTRIES)
def test_fields_of_a_newer_build_survive_an_older_one(name: str) -> None:
    newer = bytes.fromhex(ENTRIES[name]["hex"]) + UNKNOWN
    read = contract().class_of(name).FromString(newer)
    assert golden.as_json(read) == ENTRIES[name]["json"]
    assert UNKNOWN in read.SerializeToString()


def _unset(message: Message) -> Iterator[str]:
    """Fields of a sample that say nothing, with those inside it."""
    for field in message.DESCRIPTOR.fields:
        if field.containing_oneof is not None and field.containing_oneof.fields[0] is not field:
            continue
        value: Any = getattr(message, field.name)
        if not (message.HasField(field.name) if field.has_presence else value):
            yield field.full_name
        elif field.message_type is not None:
            inner = value if field.is_repeated else [value]
            inner = value.values() if hasattr(value, "values") else inner
            for item in inner:
                yield from _unset(item)


@pytest.mark.parametrize("name", sorted(contract().classes))
def test_a_sample_sets_every_field(name: str) -> None:
    assert not list(_unset(golden.sample(name)))
