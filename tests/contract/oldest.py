"""The oldest contract that partners were given, and the calls that its clients make.

`oldest.binpb` is that contract, compiled; `oldest_calls.json` is what a client built from it sends in each
call. Both are written once and never again: such clients are out there.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from tests.contract import golden

CONTRACT = Path(__file__).with_name("oldest.binpb")
CALLS = Path(__file__).with_name("oldest_calls.json")


class Sent(TypedDict):
    """What the oldest client sends in a call: its bytes and what they mean."""

    hex: str
    json: dict[str, Any]


class Call(NamedTuple):
    """A call of the oldest contract, with the classes of that contract."""

    method: MethodDescriptor
    request: type[Message]
    answer: type[Message]

    @property
    def path(self) -> str:
        return f"/{self.method.containing_service.full_name}/{self.method.name}"


@cache
def calls() -> dict[str, Call]:
    """Every call of the oldest contract, by its path."""
    pool = descriptor_pool.DescriptorPool()
    files = descriptor_pb2.FileDescriptorSet.FromString(CONTRACT.read_bytes()).file
    for file in files:
        pool.Add(file)
    services = [pool.FindServiceByName(f"{f.package}.{s.name}") for f in files for s in f.service]
    made = [
        Call(method, GetMessageClass(method.input_type), GetMessageClass(method.output_type))
        for service in services
        for method in service.methods
    ]
    return {call.path: call for call in made}


def sent() -> dict[str, Sent]:
    found: dict[str, Sent] = json.loads(CALLS.read_text()) if CALLS.exists() else {}
    return found


def meaning(message: Message) -> dict[str, Any]:
    """What a message says; enums by number, for an older contract does not know the names of newer values."""
    found: dict[str, Any] = MessageToDict(
        message, preserving_proto_field_name=True, use_integers_for_enums=True
    )
    return found


def main() -> None:
    """Add what is missing; what is there stays."""
    found = sent()
    for path, call in calls().items():
        if path not in found:
            request = call.request()
            golden.fill(request)
            found[path] = {"hex": golden.to_bytes(request).hex(), "json": meaning(request)}
    CALLS.write_text(json.dumps(dict(sorted(found.items())), ensure_ascii=False, indent=1) + "\n")
    print(f"{len(found)} calls")


if __name__ == "__main__":
    main()
