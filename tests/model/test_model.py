"""The exposure protocol holds in every state of a small world, and breaks without its rules.

`make model` searches the larger worlds, and leaves out every rule.
"""

from __future__ import annotations

import pytest

from tests.model.rules import RULES, searched


def test_every_state_of_a_small_world_holds() -> None:
    """One lot, two dispenses, a site; transactions between others, a step that dies or freezes."""
    result = searched("small")
    assert result.broken == ""
    assert result.states > 1000  # the search has been somewhere


@pytest.mark.parametrize("rule", ["append-from-watch", "lots-decided", "parked-holds"])
def test_without_a_rule_something_breaks(rule: str) -> None:
    result = searched(RULES[rule].configuration, RULES[rule])
    assert result.broken
    assert result.way
