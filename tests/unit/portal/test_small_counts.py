"""Pages that several organisations read tell no group of 1 to 9, and nothing that one follows from."""

from __future__ import annotations

import random

import pytest

from pharmaloop.clinical.v1 import service_pb2 as clinical
from services.clinical.domain.evidence import release
from services.kit import small_groups
from services.portal.pages.sites import told_of_all
from services.production.domain import capa, pooled
from services.traceability.domain.dossier import published
from tests.unit.portal.fakes import Browser, FakeBackend


def _board(**counts: int) -> clinical.RunBoard:
    return clinical.RunBoard(run="r-1", **counts)  # type: ignore[arg-type]


def _text(*boards: clinical.RunBoard) -> str:
    sites = {f"hospital-{n}": f"clinical.hospital-{n}" for n in range(len(boards))}
    answers = {
        (process, "GetSiteBoard"): clinical.GetSiteBoardResponse(runs=[board])
        for process, board in zip(sites.values(), boards, strict=True)
    }
    return Browser(FakeBackend(sites=sites, answers=dict(answers))).get("/sites").text


def test_every_page_and_every_release_draws_the_line_at_the_same_size() -> None:
    lines = (published.SMALLEST, release.SMALLEST, pooled.SMALLEST, capa.SMALLEST_COUNT)
    assert set(lines) == {small_groups.SMALLEST}


def test_large_counts_are_told() -> None:
    text = _text(_board(plans=60, answered=20, awaited=40, overdue=25), _board(plans=30, awaited=30))
    assert ">40<" in text
    assert ">25<" in text
    assert "withheld (protects a small group)" not in text


def test_a_small_count_withholds_its_column_at_every_site() -> None:
    text = _text(_board(plans=60, answered=20, awaited=40), _board(plans=15, answered=11, awaited=4))
    assert ">40<" not in text
    assert text.count("withheld (protects a small group)") == 2


def test_nobody_is_no_group() -> None:
    text = _text(_board(notices_owed=7), _board(notices_owed=0))
    assert text.count("withheld (protects a small group)") == 1
    assert ">7<" not in text


@pytest.mark.parametrize(
    ("counts", "kind"),
    [
        ({"plans": 43, "answered": 3, "awaited": 40}, "awaited"),
        ({"awaited": 40, "overdue": 35}, "overdue"),
        ({"awaited": 40, "overdue": 20, "comparators_overdue": 4}, "overdue"),
        ({"notices_owed": 40, "unreachable": 2}, "owed"),
        ({"notices_owed": 40, "notified": 9}, "owed"),
        ({"only_in_trace": 12, "only_at_site": 1}, "differences"),
    ],
    ids=str,
)
def test_what_a_small_group_follows_from_is_withheld(counts: dict[str, int], kind: str) -> None:
    assert kind not in told_of_all({"a": [_board(**counts)]})


def test_a_sum_over_runs_hides_no_small_run() -> None:
    runs = [_board(awaited=40), _board(awaited=5)]
    runs[1].run = "r-2"
    assert "awaited" not in told_of_all({"a": runs})


def test_no_site_follows_from_a_total_and_the_others() -> None:
    """Brute force: of every kind that is told, each site's groups are nobody or ten and more, so neither a
    count, nor a total less the others, is of 1 to 9."""
    draw = random.Random(7)
    for _ in range(300):
        boards = {}
        for site in "abc"[: draw.randint(1, 3)]:
            awaited, answered = draw.choice([0, 4, 12, 30]), draw.choice([0, 3, 25])
            overdue = draw.randint(0, awaited)
            board = _board(plans=awaited + answered, answered=answered, awaited=awaited, overdue=overdue)
            boards[site] = [board]
        told = told_of_all(boards)
        for (board,) in boards.values():
            if "awaited" in told:
                assert not small_groups.small(board.awaited)
                assert not small_groups.small(board.plans - board.awaited)
            if "overdue" in told:
                assert not small_groups.small(board.overdue)
                assert not small_groups.small(board.awaited - board.overdue)


def test_a_sites_own_page_shows_its_numbers() -> None:
    board = _board(plans=7, answered=4, awaited=3, overdue=2)
    backend = FakeBackend(
        sites={"hospital-a": "clinical"},
        answers={("clinical", "GetSiteBoard"): clinical.GetSiteBoardResponse(runs=[board])},
    )
    text = Browser(backend).get("/sites/hospital-a").text
    assert "<dd>7</dd>" in text
    assert "withheld" not in text
