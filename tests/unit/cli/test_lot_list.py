"""`lot list`: so many at once, and how one goes on."""

from __future__ import annotations

from typing import Any

from pharmaloop.production.v1 import service_pb2 as production
from tests.unit.cli.support import Bench


def answer(request: Any) -> Any:
    """250 lots in pages; the token is the place."""
    begin = int(request.page_token or 0)
    end = min(begin + request.page_size, 250)
    lots = [production.Lot(lot=f"maker-1/item/granulate/G-{n:04d}") for n in range(begin, end)]
    return production.ListLotsResponse(lots=lots, next_page_token=str(end) if end < 250 else "")


def test_a_long_list_says_how_it_goes_on(bench: Bench) -> None:
    bench.fake.answers["ListLots"] = answer
    first = bench.json("lot", "list")
    assert (len(first["lots"]), first["after"]) == (100, "100")
    assert "--after '100' goes on" in bench.run("lot", "list").output
    last = bench.json("lot", "list", "--after", "200")
    assert (len(last["lots"]), last["after"]) == (50, None)
    assert last["lots"][0]["lot"].endswith("G-0200")
    assert "--after" not in bench.run("lot", "list", "--after", "200").output


def test_fewer_or_all_are_shown_as_asked(bench: Bench) -> None:
    bench.fake.answers["ListLots"] = answer
    assert len(bench.json("lot", "list", "--most", "7")["lots"]) == 7
    everything = bench.json("lot", "list", "--all")
    assert (len(everything["lots"]), everything["after"]) == (250, None)
    assert bench.run("lot", "list", "--most", "0").exit_code == 2
