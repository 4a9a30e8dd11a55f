"""The contract as the tests read it, from what is compiled and what is written."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor, MethodDescriptor

import pharmaloop
from pharmaloop.options.v1 import options_pb2 as options

ROOT = Path(__file__).resolve().parents[2]
PROTO = ROOT / "proto"
SEALED = "pharmaloop.common.v1.Sealed"
#: The comment before a sealed field.
_SEALED_FIELD = re.compile(r"((?:^ *//.*\n)+) *pharmaloop\.common\.v1\.Sealed ", re.MULTILINE)
#: Methods that change nothing, by the verb they begin with.
QUERIES = ("Get", "List", "Count", "Find", "Watch", "Trace")


@cache
def files() -> tuple[FileDescriptor, ...]:
    """Every compiled file of the contract."""
    names = [
        module.name
        for module in pkgutil.walk_packages(pharmaloop.__path__, "pharmaloop.")
        if module.name.endswith("_pb2")
    ]
    return tuple(importlib.import_module(name).DESCRIPTOR for name in sorted(names))


def _nested(message: Descriptor) -> Iterator[Descriptor]:
    yield message
    for inner in message.nested_types:
        if not inner.GetOptions().map_entry:
            yield from _nested(inner)


@cache
def messages() -> tuple[Descriptor, ...]:
    """Every message, nested ones too; the entries of maps are no messages of their own."""
    tops = (top for file in files() for top in file.message_types_by_name.values())
    return tuple(message for top in tops for message in _nested(top))


@cache
def methods() -> tuple[MethodDescriptor, ...]:
    """Every RPC."""
    return tuple(
        method
        for file in files()
        for service in file.services_by_name.values()
        for method in service.methods_by_name.values()
    )


def event_files() -> tuple[FileDescriptor, ...]:
    return tuple(file for file in files() if file.name.endswith("/events.proto"))


def is_query(method: MethodDescriptor) -> bool:
    return method.name.startswith(QUERIES)


@cache
def topics() -> dict[str, dict[str, Any]]:
    """topics.yaml as it is written, before the kit has read anything into it."""
    raw = yaml.safe_load((PROTO / "topics.yaml").read_text())
    return {name: {**raw["defaults"], **entry} for name, entry in raw["topics"].items()}


@cache
def changelogs() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load((PROTO / "topics.yaml").read_text())["changelogs"]
    return found


@cache
def by_name() -> dict[str, Descriptor]:
    return {message.full_name: message for message in messages()}


def events() -> list[Descriptor]:
    """The event types that topics.yaml names and the compiled contract has."""
    return [by_name()[name] for entry in topics().values() for name in entry["events"] if name in by_name()]


def values_of(field: FieldDescriptor) -> Descriptor | None:
    """The message type of a field; of a map, that of its values."""
    kind = field.message_type
    if kind is None or not kind.GetOptions().map_entry:
        return kind
    return kind.fields_by_name["value"].message_type


def class_of(message: Descriptor) -> int:
    data_class: Any = options.data_class
    return int(message.GetOptions().Extensions[data_class])


def field_class(field: FieldDescriptor) -> int:
    """The class of a field: its own, or else its message's."""
    own: Any = options.field_class
    assert field.containing_type is not None
    return int(field.GetOptions().Extensions[own]) or class_of(field.containing_type)


def fields_within(message: Descriptor, seen: frozenset[str] = frozenset()) -> Iterator[FieldDescriptor]:
    """The fields of a message, and of the messages inside it; what is sealed is not looked into."""
    if message.full_name in seen:
        return
    for field in message.fields:
        yield field
        inner = values_of(field)
        if inner is not None and inner.full_name != SEALED and inner.file.package.startswith("pharmaloop."):
            yield from fields_within(inner, seen | {message.full_name})


def inside_sealed() -> set[str]:
    """Messages that the comment of a sealed field names as its content: "(a SubjectProfile)"."""
    found = set()
    for path in PROTO.glob("pharmaloop/*/v1/events.proto"):
        package = ".".join(path.parent.relative_to(PROTO).parts)
        for comment in _SEALED_FIELD.findall(path.read_text()):
            found |= {f"{package}.{name}" for name in re.findall(r"\(an? ([A-Z]\w+)\)", comment)}
    return found
