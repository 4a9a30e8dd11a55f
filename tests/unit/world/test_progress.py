"""The progress file: a second start goes on, another seed is refused."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from services.world.progress import OtherWorld, Progress
from tests.unit.world.support import ANCHOR


def test_a_second_start_goes_on(tmp_path: Path) -> None:
    first = Progress(tmp_path, 7, "ws", ANCHOR)
    first.finish("history:a")
    first.finish("history:b")
    first.set_count("lot", 15)
    first.note_place("topic.with:colon", 2, 5)
    first.note_place("topic.with:colon", 2, 3)
    first.save()
    second = Progress(tmp_path, 7, "ws", ANCHOR + timedelta(days=3))
    assert second.anchor == ANCHOR
    assert second.is_done("history:a")
    assert not second.is_done("history:c")
    assert second.finished("history:") == 2
    assert second.count("lot") == 15
    assert second.places() == [("topic.with:colon", 2, 5)]


@pytest.mark.parametrize(("seed", "size"), [(8, "ws"), (7, "small")])
def test_another_world_is_refused_with_what_to_do(tmp_path: Path, seed: int, size: str) -> None:
    Progress(tmp_path, 7, "ws", ANCHOR).save()
    with pytest.raises(OtherWorld, match=r"world ws of seed 7; .* or forget it with 'make clean'"):
        Progress(tmp_path, seed, size, ANCHOR)
