"""The page of a genealogy: a few boxes however many lots there are, and what is opened in its address."""

from __future__ import annotations

import gzip
import html
import re
from typing import Any
from urllib.parse import quote

import pytest
from grpc import StatusCode

from pharmaloop.traceability.v1 import service_pb2 as trace
from services.portal.backend import Missing, Refused
from services.portal.genealogies import MOST_OPEN, PAGE
from services.traceability.domain import kin
from tests.unit.portal.fakes import HOSTILE, Answer, Browser, FakeBackend, refused

LOT = "maker-1/item/granulate/G-0071"
AT = "/lots/maker-1%2Fitem%2Fgranulate%2FG-0071/genealogy"
RAW, PACK, KIT = "maker-1/item/lactose", "maker-1/gtin/06901234500547", "maker-1/kit/study-1"
#: What a first page may weigh.
_LIGHT = 150_000


class Trace:
    """A trace of lots that were made from lots; what is asked of it is answered as the service does."""

    def __init__(self, made: dict[str, list[str]]) -> None:
        self.inputs = {lot: sorted(inputs) for lot, inputs in made.items()}
        self.outputs: dict[str, list[str]] = {}
        for lot in sorted(made):
            for one in made[lot]:
                self.outputs.setdefault(one, []).append(lot)

    def _told(self, lot: str) -> trace.Neighbour:
        return trace.Neighbour(
            lot=lot,
            known=lot in self.inputs,
            inputs=len(self.inputs.get(lot, ())),
            outputs=len(self.outputs.get(lot, ())),
            inputs_withheld="/kit/" in lot,
        )

    def neighbours(
        self, lot: str, step: int, kind: str = "", page_size: int = 100, page_token: str = ""
    ) -> trace.ListNeighboursResponse:
        around = (self.inputs if step == trace.MATERIAL_STEP_INPUTS else self.outputs).get(lot, [])
        if page_token and not kin.among(around, page_token):
            raise Refused("traceability", StatusCode.INVALID_ARGUMENT, "BAD_PAGE_TOKEN", "page_token", "no")
        kinds = [trace.NeighbourKind(kind=one, lots=lots) for one, lots in kin.kinds(around)]
        answer = trace.ListNeighboursResponse(lot=self._told(lot), kinds=kinds)
        if kind:
            lots, answer.before, answer.next_page_token = kin.part(around, kind, page_token, page_size)
            answer.lots.extend(self._told(one) for one in lots)
        return answer

    def backend(self, *hits: trace.FoundLot, complete: bool = True) -> FakeBackend:
        found = trace.FindInGenealogyResponse(lots=hits, complete=complete)
        return FakeBackend(
            {
                ("traceability", "ListNeighbours"): self.neighbours,
                ("traceability", "FindInGenealogy"): found,
            }
        )


def packs(number: int) -> Trace:
    """A granulate of two lots of lactose, and of it so many packs; pack 7 went into two boxes."""
    made = {LOT: [f"{RAW}/R-1", f"{RAW}/R-2"], f"{RAW}/R-1": ["maker-1/item/milk/M-1"]}
    made |= {f"{PACK}/P-{n:06}": [LOT] for n in range(number)}
    made |= {f"maker-1/sscc/1/B-{n}": [f"{PACK}/P-000007"] for n in (1, 2)}
    return Trace(made)


def links(page: Answer) -> list[str]:
    """Where the drawing leads."""
    drawn = page.text[page.text.index('<svg class="genealogy"') : page.text.index("</svg>")]
    return [html.unescape(to) for to in re.findall(r'<a href="([^"]+)"', drawn)]


def follow(browser: Browser, page: Answer, label: str) -> Answer:
    """The page that the box with a label leads to."""
    found = re.search(rf'<a href="([^"]+)" aria-label="{re.escape(label)}', page.text)
    assert found, label
    return browser.get(html.unescape(found[1]))


@pytest.mark.parametrize("number", [10_000, 100_000])
def test_however_many_lots_the_first_page_is_a_few_boxes_and_light(number: int) -> None:
    backend = packs(number).backend()
    page = Browser(backend).get(AT)
    assert page.text.count("<rect") == 3
    assert f"{number:,}" in page.text
    assert len(gzip.compress(page.body)) < _LIGHT
    assert len(backend.asked) == 2  # one look up, one down


def test_groups_and_lots_are_opened_step_by_step_and_closed_again() -> None:
    browser = Browser(packs(10_000).backend())
    page = follow(browser, browser.get(AT), f"Open {PACK}: Lots: 10,000")
    assert f"/lots/{quote(PACK, safe='')}%2FP-000024" in links(page)
    assert f'aria-label="{PACK}/P-000025"' not in page.text
    assert "9,975 more" in page.text
    page = follow(browser, page, f"Open {PACK}/P-000007: Lots: 2")
    assert "Made from it, step 2" in page.text
    assert "B-2" in page.text  # boxes alone were made from it: there is no kind to choose
    for label in (f"Close {PACK}/P-000007", "Close maker-1/sscc/1: Lots: 2"):
        assert "B-2" not in follow(browser, page, label).text
    page = follow(browser, page, f"Close {PACK}: Lots: 10,000")
    assert not [to for to in links(page) if to.endswith("P-000007")]


def test_what_goes_up_stands_to_the_left() -> None:
    browser = Browser(packs(3).backend())
    page = follow(browser, browser.get(AT), f"Open {RAW}: Lots: 2")
    page = follow(browser, page, f"Open {RAW}/R-1: Lots: 1")
    assert "Went into it, step 2" in page.text
    box = re.search(r'aria-label="Close maker-1/item/milk.*?<rect class="group" x="(-?\d+)"', page.text)
    assert box
    assert int(box[1]) < -200


def test_of_several_kinds_the_reader_chooses_one() -> None:
    pack = f"{PACK}/P-1"
    made = {pack: [LOT], "maker-1/sscc/1/B-1": [pack], "maker-1/sscc/2/B-2": [pack]}
    browser = Browser(Trace(made).backend())
    page = follow(browser, follow(browser, browser.get(AT), f"Open {PACK}"), f"Open {pack}: Lots: 2")
    assert "B-1" not in page.text
    page = follow(browser, page, "Open maker-1/sscc/2: Lots: 1")
    assert "B-2" in page.text
    page = follow(browser, page, "Close maker-1/sscc/2")
    assert "B-2" not in page.text
    assert "Open maker-1/sscc/2: Lots: 1" in page.text


def test_pages_of_a_group_go_on_and_back() -> None:
    browser = Browser(packs(60).backend())
    page = follow(browser, browser.get(AT), f"Open {PACK}")
    more = next(to for to in links(page) if f"P-{PAGE:06}" in to and "open=" in to)
    page = browser.get(more)
    assert "26 to 50 of 60" in page.text
    assert "25 before these" in page.text
    assert "10 more" in page.text
    assert page.text.count('id="g-') == 1  # a group is open once, at one page


def test_what_is_drawn_stands_in_tables_as_well() -> None:
    page = Browser(packs(3).backend()).get(f"{AT}?open=down+{LOT}+{PACK}")
    tables = page.text[page.text.index("</svg>") :]
    for n in range(3):
        assert f"P-{n:06}" in tables
    assert "only referred to" not in tables


def test_a_search_leads_to_the_lot_in_the_drawing() -> None:
    far = f"{PACK}/P-009000"
    hit = trace.FoundLot(lot=far, step=trace.MATERIAL_STEP_OUTPUTS, way=[LOT, far])
    browser = Browser(packs(10_000).backend(hit, complete=False))
    page = browser.get(f"{AT}?q=9000")
    assert "not all: the search ended at its bound" in page.text
    shown = follow(browser, page, f"Show {far} in the drawing")
    assert re.search(
        r'aria-label="' + re.escape(far) + r'"><title>[^<]*</title><rect class="found"', shown.text
    )
    assert "9,001 to 9,025 of 10,000" in shown.text
    assert 'value="9000"' in shown.text
    assert "No lot of this genealogy matches." in Browser(packs(3).backend()).get(f"{AT}?q=nothing").text


def test_a_kit_says_that_what_it_holds_is_not_shown() -> None:
    kit = f"{KIT}/K-1"
    page = Browser(Trace({kit: []}).backend()).get("/lots/maker-1%2Fkit%2Fstudy-1%2FK-1/genealogy")
    assert "not shown: a kit of a blinded study" in page.text


def test_a_cycle_ends_and_a_lot_alone_says_so() -> None:
    ring = Trace({LOT: [f"{PACK}/P-1"], f"{PACK}/P-1": [LOT]})
    opened = f"open=down+{LOT}+{PACK}&open=down+{PACK}%2FP-1+maker-1%2Fitem%2Fgranulate"
    page = Browser(ring.backend()).get(f"{AT}?{opened}")
    assert page.status == 200
    assert page.text.count("<rect") < 12
    assert "No record says what it was made from" in Browser(Trace({LOT: []}).backend()).get(AT).text


@pytest.mark.parametrize(
    "query",
    [
        "open=",
        "open=down",
        "open=sideways+a+b",
        "open=down+a+b+c+d",
        "open=down++",
        "open=down+%3Cscript%3E+x",
        f"open=down+{LOT}+{PACK}+P-none",
        f"open=down+{LOT}+no-kind",
        "q=%3Cscript%3Ealert(1)%3C/script%3E",
    ],
)
def test_an_address_that_somebody_wrote_breaks_nothing(query: str) -> None:
    page = Browser(packs(30).backend()).get(f"{AT}?{query}")
    assert page.status == 200
    assert "<script>alert" not in page.text


def test_no_more_is_open_than_the_bound_and_names_are_text() -> None:
    many = "&".join(f"open=down+{LOT}+{PACK}{n}" for n in range(500))
    backend = packs(3).backend()
    assert Browser(backend).get(f"{AT}?{many}").status == 200
    assert len(backend.asked) <= MOST_OPEN + 2
    hostile = Trace({LOT: [f"{HOSTILE.replace('/', '')}/x"]})
    page = Browser(hostile.backend()).get(AT)
    assert "<script>alert" not in page.text


def test_a_lot_that_nobody_knows_is_no_page_and_a_trace_that_is_away_is_named() -> None:
    answers: dict[tuple[str, str], Any] = {("traceability", "ListNeighbours"): refused()}
    assert Browser(FakeBackend(answers)).get(AT).status == 404
    answers["traceability", "ListNeighbours"] = Missing("traceability", "away")
    assert Browser(FakeBackend(answers)).get(AT).status == 503


def test_chinese_readers_read_chinese() -> None:
    text = Browser(packs(3).backend(), language="zh").get(AT).text
    for said in ("展开", "左侧为该批次的原料", "原料，第 1 步"):
        assert said in text
