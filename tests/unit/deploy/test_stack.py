"""What `make status` says of a program."""

from __future__ import annotations

import pytest

from deploy.local.stack import shown
from deploy.local.supervised import State


@pytest.mark.parametrize(
    ("name", "state", "status", "word"),
    [
        ("world", "EXITED", 0, "done"),
        ("migrate", "EXITED", 0, "done"),
        ("world", "EXITED", 3, "EXITED (3)"),
        ("world", "EXITED", -1, "EXITED (-1)"),
        ("traceability", "EXITED", 0, "EXITED (0)"),
        ("world", "RUNNING", 0, "RUNNING"),
        ("world", "FATAL", 1, "FATAL"),
    ],
)
def test_a_story_that_is_over_is_told_apart_from_a_failure(
    name: str, state: str, status: int, word: str
) -> None:
    assert shown(State(name, state, 0, status, "")) == word
