"""What the earlier build has written is read by this one: its events, its topics, its stored states."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tests.earlier
from tests.earlier import ROOT, WITHOUT_A_TAG, earlier, named, says

pytestmark = pytest.mark.timeout(300)
Said = dict[str, Any]


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Said, Said]]:
    """What the earlier build and this one say of themselves."""
    with earlier(tmp_path_factory.mktemp("earlier")) as before:
        yield before.says, says(ROOT)


def unread(writer: Said, reader: Said) -> dict[str, set[str]]:
    """Fields that the reader's states must have, and that the writer does not write."""
    both = writer["kinds"].keys() & reader["kinds"].keys()
    return {
        name: fields
        for name in sorted(both)
        if (fields := set(reader["kinds"][name]["required"]) - set(writer["kinds"][name]["fields"]))
    }


def test_a_field_that_only_the_reader_knows_and_must_have_is_found() -> None:
    writer = {"kinds": {"rnd.trial": {"fields": ["name"], "required": ["name"]}}}
    reader = {"kinds": {"rnd.trial": {"fields": ["dose", "name"], "required": ["dose", "name"]}}}
    assert unread(writer, reader) == {"rnd.trial": {"dose"}}
    assert not unread(reader, writer)


def test_no_event_type_is_gone_or_has_moved(builds: tuple[Said, Said]) -> None:
    before, now = builds
    assert {type_: now["types"].get(type_) for type_ in before["types"]} == before["types"]


def test_no_topic_is_gone_or_has_another_number_of_partitions(builds: tuple[Said, Said]) -> None:
    before, now = builds
    assert {name: now["partitions"].get(name) for name in before["partitions"]} == before["partitions"]


def test_what_a_stored_state_must_have_the_earlier_build_has_written(builds: tuple[Said, Said]) -> None:
    """A field that came since has a default, or its rows could not be read after an upgrade."""
    before, now = builds
    assert not unread(before, now)


def test_what_this_build_writes_the_earlier_one_can_read_after_a_rollback(builds: tuple[Said, Said]) -> None:
    before, now = builds
    assert not unread(now, before)


def test_a_checkout_without_history_fails_and_says_how_to_bring_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """To leave out what it is for would read as if it had been tried."""
    monkeypatch.delenv("FROM", raising=False)
    monkeypatch.setattr(tests.earlier, "_git", lambda *words, check=True: "")
    with pytest.raises(pytest.fail.Exception, match="git fetch --unshallow --tags"), earlier(tmp_path):
        pass


def test_while_there_is_no_tag_an_old_build_meets_events_that_it_does_not_know(
    builds: tuple[Said, Said],
) -> None:
    """Else `test_upgrade.py` would have nothing to show for the wrong order of an upgrade."""
    before, now = builds
    new = {type_ for type_ in now["types"] if type_ not in before["types"]}
    heard = {
        owner for type_, (topic, owner) in now["types"].items() if type_ in new and now["readers"].get(topic)
    }
    assert "production" in heard or named() != WITHOUT_A_TAG
