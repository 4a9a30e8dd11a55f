"""The contract keeps its own rules: classes, topics, keys, owners and requests."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor

from pharmaloop.options.v1 import options_pb2 as options
from services.kit.contracts import contract
from tests.contract import descriptors as d

TOPICS = sorted(d.topics().items())
TOPIC_NAMES = [name for name, _ in TOPICS]
#: Calls in which both sides speak; what is said has its effect once by rules of its own.
STANDING = [method for method in d.methods() if method.client_streaming]
MUTATING = [method for method in d.methods() if not d.is_query(method) and method not in STANDING]
ASKING = [method for method in d.methods() if d.is_query(method)]
#: What operators do to a process is no event of a domain: it has no place in the log.
OF_A_PROCESS = "pharmaloop.common.v1."


def _name(thing: Descriptor | FieldDescriptor | MethodDescriptor) -> str:
    return thing.full_name


def test_every_event_type_has_exactly_one_topic() -> None:
    homes = Counter(event for entry in d.topics().values() for event in entry["events"])
    assert not {event: n for event, n in homes.items() if n != 1}
    assert not set(homes) - set(d.by_name()), "topics.yaml names events that no proto file has"


def test_every_message_of_the_event_files_is_an_event_a_part_of_one_or_sealed_inside_one() -> None:
    # A message that is nothing of these would be an event that was forgotten in topics.yaml.
    in_event_files = {m.full_name for file in d.event_files() for m in file.message_types_by_name.values()}
    parts = {kind.full_name for m in d.messages() for f in m.fields if (kind := d.values_of(f)) is not None}
    topped = {event.full_name for event in d.events()}
    assert not in_event_files - topped - parts - d.inside_sealed()


def test_what_is_inside_sealed_never_travels_open() -> None:
    inside = d.inside_sealed()
    assert {"pharmaloop.clinical.v1.SubjectProfile", "pharmaloop.clinical.v1.ResponseText"} <= inside
    open_inside = {
        field.full_name
        for event in d.events()
        for field in d.fields_within(event)
        if (kind := d.values_of(field)) is not None and kind.full_name in inside
    }
    assert not open_inside
    assert all(d.class_of(d.by_name()[name]) >= options.DATA_CLASS_L4 for name in inside)


@pytest.mark.parametrize("message", d.messages(), ids=_name)
def test_every_message_is_classed(message: Descriptor) -> None:
    assert d.class_of(message) != options.DATA_CLASS_UNSPECIFIED


@pytest.mark.parametrize("event", d.events(), ids=_name)
def test_personal_data_in_an_event_are_sealed(event: Descriptor) -> None:
    for field in d.fields_within(event):
        kind = d.values_of(field)
        sealed = kind is not None and kind.full_name == d.SEALED
        personal = d.field_class(field) >= options.DATA_CLASS_L4
        assert sealed == personal, f"{field.full_name}: class and type contradict each other"


@pytest.mark.parametrize(("name", "entry"), TOPICS, ids=TOPIC_NAMES)
def test_a_topics_key_is_a_text_of_each_of_its_events(name: str, entry: dict[str, object]) -> None:
    events = [d.by_name()[event] for event in contract_events(name)]
    if entry.get("copies"):
        assert not events
        assert entry["key"] == "pl_case"
        return
    assert events, "a topic without events"
    for event in events:
        field = event.fields_by_name.get(str(entry["key"]))
        assert field is not None, f"{event.full_name} has no {entry['key']}"
        assert field.type == FieldDescriptor.TYPE_STRING


def contract_events(topic: str) -> list[str]:
    events: list[str] = d.topics()[topic]["events"]
    return events


@pytest.mark.parametrize(("name", "entry"), TOPICS, ids=TOPIC_NAMES)
def test_a_topic_is_named_after_its_owner_and_its_scope(name: str, entry: dict[str, object]) -> None:
    match = re.fullmatch(r"pharmaloop\.([a-z]+)\.(\{site\}\.)?([a-z]+)\.v([1-9]\d*)", name)
    assert match, "pharmaloop.<domain>.[{site}.]<aggregate>.v<n>"
    assert match[1] == entry["owner"]
    assert bool(match[2]) == (entry["scope"] == "site")
    assert entry["scope"] in ("shared", "site", "private")
    for event in contract_events(name):
        assert event.startswith(f"pharmaloop.{entry['owner']}.v1."), "an event of another package"


@pytest.mark.parametrize(("name", "entry"), TOPICS, ids=TOPIC_NAMES)
def test_owners_and_writers_are_services(name: str, entry: dict[str, object]) -> None:
    writers = entry.get("writers", [])
    assert isinstance(writers, list)
    for service in [entry["owner"], *writers]:
        assert (d.ROOT / "services" / str(service)).is_dir(), f"{name}: there is no service {service}"
        assert (d.PROTO / "pharmaloop" / str(service)).is_dir(), f"{name}: {service} has no contract"


@pytest.mark.parametrize(("name", "entry"), TOPICS, ids=TOPIC_NAMES)
def test_what_states_are_folded_from_is_kept_for_ever(name: str, entry: dict[str, object]) -> None:
    # Readings alone may go: folds of them take snapshots.
    if name != "pharmaloop.production.readings.v1":
        assert entry["keep"] == "forever"
    partitions = entry["partitions"]
    assert isinstance(partitions, int)
    assert partitions >= 1


def test_no_private_topic_is_shared_with_another_readers_events() -> None:
    # Dispenses carry pseudonyms: they must not move to a topic that every site may read.
    for name, entry in d.topics().items():
        personal = [e for e in entry["events"] if d.class_of(d.by_name()[e]) >= options.DATA_CLASS_L3]
        if personal:
            assert entry["scope"] in ("site", "private"), f"{name} is shared and carries {personal}"


@pytest.mark.parametrize(("name", "entry"), sorted(d.changelogs().items()))
def test_a_changelog_has_the_topic_it_is_partitioned_by(name: str, entry: dict[str, str]) -> None:
    assert entry["source"] in d.topics()
    assert d.topics()[entry["source"]]["owner"] == entry["owner"]
    assert name.endswith("-changelog")


def test_the_kit_reads_what_is_written() -> None:
    read = {topic.name: list(topic.events) for topic in contract().topics}
    assert read == {name: entry["events"] for name, entry in d.topics().items()}
    assert {log.name for log in contract().changelogs} == set(d.changelogs())


@pytest.mark.parametrize("method", MUTATING, ids=_name)
def test_what_changes_something_has_a_request_id_and_a_receipt(method: MethodDescriptor) -> None:
    asked = method.input_type.fields_by_name.get("request_id")
    assert asked is not None, "without a request id a repeated call has two effects"
    assert asked.type == FieldDescriptor.TYPE_STRING
    if method.full_name.startswith(OF_A_PROCESS):
        return
    receipt = method.output_type.fields_by_name.get("receipt")
    assert receipt is not None, "without positions nobody can read what was written"
    assert receipt.message_type is not None
    assert receipt.message_type.name in ("Receipt", "FactReceipt")


@pytest.mark.parametrize("method", ASKING, ids=_name)
def test_what_asks_has_no_request_id(method: MethodDescriptor) -> None:
    # The gate of every server demands one wherever the field exists.
    assert "request_id" not in method.input_type.fields_by_name
    if method.full_name.startswith(OF_A_PROCESS):
        return
    if method.name.startswith(("Get", "List", "Count", "Find", "Trace")):
        assert "min_position" in method.input_type.fields_by_name
    if method.name.startswith("List"):
        assert {"page_size", "page_token"} <= set(method.input_type.fields_by_name)
        assert "next_page_token" in method.output_type.fields_by_name


@pytest.mark.parametrize("method", STANDING, ids=_name)
def test_who_streams_is_streamed_to(method: MethodDescriptor) -> None:
    # The gate lets calls of any other form pass unchecked.
    assert method.server_streaming
