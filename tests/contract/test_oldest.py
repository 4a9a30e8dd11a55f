"""A client of the oldest contract: its calls are taken, and it can read what it is answered."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from tests.contract import golden, oldest

PATHS = sorted(oldest.calls())


def now(path: str) -> MethodDescriptor:
    """The call as the contract has it now; KeyError where it is gone."""
    service, _, name = path.removeprefix("/").partition("/")
    package, _, short = service.rpartition(".")
    file: Any = import_module(f"{package}.service_pb2").DESCRIPTOR
    method: MethodDescriptor = file.services_by_name[short].methods_by_name[name]
    return method


def within(part: Any, whole: Any) -> bool:
    """Is all that `part` says said by `whole`, in the same places?"""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(k in whole and within(v, whole[k]) for k, v in part.items())
    if isinstance(part, list):
        same = isinstance(whole, list) and len(part) == len(whole)
        return same and all(map(within, part, whole))
    return bool(part == whole)


def test_every_call_of_the_oldest_contract_has_golden_bytes() -> None:
    assert sorted(oldest.sent()) == PATHS


@pytest.mark.parametrize("path", PATHS)
def test_the_call_is_there_and_streams_as_it_did(path: str) -> None:
    then, today = oldest.calls()[path].method, now(path)
    assert (today.client_streaming, today.server_streaming) == (then.client_streaming, then.server_streaming)
    assert today.input_type.full_name == then.input_type.full_name
    assert today.output_type.full_name == then.output_type.full_name


@pytest.mark.parametrize("path", PATHS)
def test_what_the_oldest_client_sends_means_what_it_meant(path: str) -> None:
    sent = oldest.sent()[path]
    read = GetMessageClass(now(path).input_type).FromString(bytes.fromhex(sent["hex"]))
    assert oldest.meaning(read) == sent["json"]


@pytest.mark.parametrize("path", PATHS)
def test_the_oldest_client_reads_today_s_answer_and_keeps_what_it_does_not_know(path: str) -> None:
    answer: Message = GetMessageClass(now(path).output_type)()
    golden.fill(answer)
    read = oldest.calls()[path].answer.FromString(answer.SerializeToString())
    assert within(oldest.meaning(read), oldest.meaning(answer))
    # It passes on what it does not know, so that nothing is lost behind it.
    assert type(answer).FromString(read.SerializeToString()) == answer
