"""Text in drawings: what does not fit is shortened, and told whole to who asks."""

from __future__ import annotations

import pytest

from services.portal.drawing.texts import fit, written


@pytest.mark.parametrize(
    ("text", "room", "shown"),
    [
        ("", 5, ""),
        ("lot G-1", 7, "lot G-1"),
        ("lot G-12", 7, "lot G-…"),
        ("批次", 4, "批次"),
        ("批次号", 4, "批…"),
    ],
)
def test_a_text_takes_the_room_that_there_is(text: str, room: int, shown: str) -> None:
    assert fit(text, room) == shown


def test_what_is_shortened_is_told_whole_and_foreign_text_stays_text() -> None:
    assert written("<b>", 5) == "&lt;b&gt;"
    assert written("<b>long & longer", 5) == "&lt;b&gt;l…<title>&lt;b&gt;long &amp; longer</title>"
