"""What is slow to make is made once, whole or not at all."""

import threading
from pathlib import Path

import pytest

from deploy.cluster import cache


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "pharmaloop" / "cluster"


def test_made_once_and_found_again(home: Path) -> None:
    made: list[Path] = []

    def make(folder: Path) -> None:
        made.append(folder)
        (folder / "file").write_text("here")

    first, second = cache.made("thing", make), cache.made("thing", make)
    assert first == second == home / "thing"
    assert (first / "file").read_text() == "here"
    assert len(made) == 1


def test_a_failure_leaves_nothing_and_may_be_tried_again(home: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("done")
        raise RuntimeError("no disk")

    with pytest.raises(RuntimeError, match="no disk"):
        cache.made("thing", fail)
    assert [file.name for file in home.iterdir()] == ["thing.lock"]
    assert cache.made("thing", lambda folder: None).is_dir()


def test_two_who_want_it_at_once_get_one() -> None:
    made: list[Path] = []
    started = threading.Event()
    proceed = threading.Event()

    def make(folder: Path) -> None:
        made.append(folder)
        started.set()
        proceed.wait(10)

    others = [threading.Thread(target=cache.made, args=("thing", make)) for _ in range(2)]
    for other in others:
        other.start()
    assert started.wait(10)
    proceed.set()
    for other in others:
        other.join(10)
    assert len(made) == 1


def test_the_key_follows_names_contents_and_facts(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("1")
    keys = {cache.key([file]), cache.key([file], "fact")}
    file.write_text("2")
    keys.add(cache.key([file]))
    assert len(keys) == 3
    assert cache.key([file]) in keys
