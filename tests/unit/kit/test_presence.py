"""Who runs as which instance, and which other processes of the service live."""

from __future__ import annotations

from typing import Any

from services.kit.presence import Presence


class _Rows:
    """The rows of presence, as far as they are asked for here."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Any]] = {}

    def row(self, id: str, token: str, beat: int) -> None:
        self.rows[id] = {"_id": id, "holder": {"token": token}, "beat": beat}

    def find(self, query: dict[str, Any], fields: object) -> list[dict[str, Any]]:
        mine = query["_id"]["$ne"]
        return [r for r in self.rows.values() if r["_id"] != mine and r["holder"]["token"]]


class _Probe:
    database = "pharmaloop_rnd"

    def __init__(self, rows: _Rows) -> None:
        self.rows = rows

    def collection(self, name: str) -> _Rows:
        return self.rows


def _presence(rows: _Rows) -> Presence:
    return Presence(_Probe(rows), "rnd", "0", "all", True)  # type: ignore[arg-type]


def test_another_process_is_one_whose_row_moves() -> None:
    rows = _Rows()
    presence = _presence(rows)
    rows.row("0", "me", 5)
    assert not presence.others()
    rows.row("0", "me", 6)
    rows.row("1", "killed", 9)
    rows.row("2", "", 9)
    assert not presence.others()
    assert not presence.others(), "a row that stands still is of a process that was killed"
    rows.row("api/0", "an api", 1)
    assert not presence.others()
    rows.row("api/0", "an api", 2)
    assert presence.others()
