"""The page of a lineage: one drawing whose boxes and lines lead on, and its events as a table."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from pharmaloop.traceability.v1 import service_pb2 as trace
from services.kit.hops import in_order
from tests.unit.portal.fakes import HOSTILE, Browser, FakeBackend, refused

LOT = "m/item/x/L-1"


def hop(event: str, type: str, froms: list[Any], tos: list[Any], cause: str = "", when: int = 0) -> Any:
    return trace.LineageHop(
        event=event,
        type=f"pharmaloop.x.v1.{type}",
        service="x",
        at=Timestamp(seconds=1_795_000_000 + when),
        recorded_at=Timestamp(seconds=1_780_000_000 + when),
        cause=cause,
        comes_from=[trace.LineageThing(kind=kind, id=id) for kind, id in froms],
        leads_to=[trace.LineageThing(kind=kind, id=id) for kind, id in tos],
    )


STORY = [
    hop("e1", "MoleculeRegistered", [("target", "T")], [("molecule", "M")], when=1),
    hop("e2", "ProductRegistered", [("molecule", "M")], [("product", "m/item/x")], when=2),
    hop("e3", "LotStarted", [("product", "m/item/x")], [("lot", LOT)], when=3),
    hop("e4", "DeviationConfirmed", [("lot", LOT)], [("deviation", "d-1")], when=4),
    hop("e5", "SafetyRunOpened", [("deviation", "d-1")], [("run", "r-1")], "e4", when=5),
    hop("e6", "HypothesisUpdated", [("insight", "i-1")], [("hypothesis", "h-1")], when=6),
]


def backend(hops: list[Any], truncated: bool = False, of: tuple[str, str] = ("run", "r-1")) -> FakeBackend:
    told = trace.GetLineageResponse(
        of=[trace.LineageThing(kind=of[0], id=of[1])], hops=hops, truncated=truncated
    )
    return FakeBackend({("traceability", "GetLineage"): told})


def test_a_lineage_says_what_it_begins_with() -> None:
    assert "It begins with: Target." in Browser(backend(STORY)).get("/lineage/r-1").text
    text = Browser(backend(STORY[3:]), "zh").get("/lineage/r-1").text
    assert "起点：批次。" in text
    assert "分子" not in text[text.index('<p class="purpose">') : text.index("</p>")]
    assert "It begins with" not in Browser(backend(STORY[3:], truncated=True)).get("/lineage/r-1").text
    assert "It begins with" not in Browser(FakeBackend()).get("/lineage").text


def test_a_lot_was_started_when_its_plant_says_and_told_later() -> None:
    started = hop("e3", "LotStarted", [("product", "m/item/x")], [("lot", LOT)], when=3)
    started.plant_at.FromJsonString("2024-03-26T06:59:34Z")
    text = Browser(backend([*STORY[:2], started])).get("/lineage/r-1").text
    row = text[text.index('id="h-e3"') :].partition("</tr>")[0]
    assert "Mar 26, 2024" in row
    assert "by the plant&#39;s record; told Nov 18, 2026" in row
    assert text.count("by the plant&#39;s record") == 1


def test_plans_and_evidence_name_their_hospital_and_nobody_else() -> None:
    opened = hop("e7", "PlansOpened", [("run", "r-1")], [], when=7)
    opened.site = HOSTILE
    text = Browser(backend([*STORY, opened])).get("/lineage/r-1").text
    row = text[text.index('id="h-e7"') :]
    assert 'href="/sites/' in row[: row.index("</tr>")]
    assert "<script>alert" not in text
    assert text.count('href="/sites/') == 1


def test_every_thing_and_every_hop_of_the_drawing_leads_on() -> None:
    text = Browser(backend(STORY)).get("/lineage/r-1").text
    drawn = text[text.index('<svg class="lineage"') : text.index("</svg>")]
    for to in ("/lots/m%2Fitem%2Fx%2FL-1", "/deviations/m%2Fitem%2Fx%2FL-1/d-1", "/runs/r-1", "/lineage/h-1"):
        assert f'href="{to}"' in drawn
    assert "Nov 18, 2026, 11:06:44" in text  # domain time of e4, and its wall time
    assert "May 28, 2026, 8:26:44" in text
    for event in ("e1", "e2", "e3", "e4", "e5", "e6"):
        assert f'href="#h-{event}"' in drawn
        assert f'id="h-{event}"' in text
    assert 'href="#h-e4" title="e4">e4' in text


def test_the_columns_follow_the_loops() -> None:
    text = Browser(backend(list(reversed(STORY)))).get("/lineage/r-1").text
    heads = re.findall(r'class="head"[^>]*>([^<]+)<', text)
    assert heads == ["Target", "Molecule", "Product", "Lot", "Deviation", "Run", "Finding", "Hypothesis"]


def test_many_things_of_a_kind_are_one_box_until_it_is_opened() -> None:
    many = [
        hop(f"e{n}", "LotStarted", [("product", "p")], [("lot", f"a/b/c/L{n}")], when=n) for n in range(50)
    ]
    told = backend(many, of=("lot", "a/b/c/L7"))
    text = Browser(told).get("/lineage/a%2Fb%2Fc%2FL7").text
    assert "49 × Lot" in text
    assert "opened=lot" in text
    assert text.count('class="node') == 3  # the product, the lot that was asked for, and the rest
    opened = Browser(told).get("/lineage/a%2Fb%2Fc%2FL7?opened=lot").text
    assert opened.count('class="node') == 51
    assert "Close the group" in opened


def test_a_lineage_that_is_cut_says_so_and_offers_the_rest() -> None:
    told = backend(STORY, truncated=True)
    text = Browser(told).get("/lineage/r-1").text
    assert "larger than what is shown" in text
    assert "Show more of it" in text
    assert "Show more of it" not in Browser(told).get("/lineage/r-1?most=5000").text


def test_long_lineages_come_page_by_page() -> None:
    many = [hop(f"e{n}", "LotReleased", [("lot", LOT)], [], when=n) for n in range(450)]
    told = backend(many, of=("lot", LOT))
    assert "start=200" in Browser(told).get("/lineage/x").text
    last = Browser(told).get("/lineage/x?start=400").text
    assert "401 to 450 of 450" in last
    assert "start=600" not in last


def test_a_hop_on_another_page_is_a_link_to_that_page() -> None:
    many = [
        hop(f"e{n}", "LotStarted", [("product", "p")], [("lot", f"a/b/c/L{n}")], when=n) for n in range(450)
    ]
    many[3].cause = "e430"
    many[4].cause = "not-in-it"
    browser = Browser(backend(many, of=("product", "p")))
    text = browser.get("/lineage/p?kind=product&opened=lot").text
    assert 'href="#h-e7"' in text
    to = "/lineage/p?kind=product&amp;opened=lot&amp;event=e430#h-e430"
    assert f'class="key" href="{to}"' in text
    assert "#h-not-in-it" not in text
    page = browser.get(html.unescape(to)).text
    assert 'id="h-e430"' in page
    assert "401 to 450 of 450" in page
    assert "event=e3#h-e3" in page  # the line of the drawing leads back
    anchors = set(re.findall(r'href="#h-([^"]+)"', text))
    assert anchors
    assert [one for one in anchors if f'id="h-{one}"' not in text] == []


def test_a_hop_beyond_what_is_read_at_first_is_looked_for_further_on() -> None:
    many = [hop(f"e{n}", "LotReleased", [("lot", LOT)], [], when=n) for n in range(1_500)]

    def told(most: int, **_: Any) -> trace.GetLineageResponse:
        return trace.GetLineageResponse(
            of=[trace.LineageThing(kind="lot", id=LOT)], hops=many[:most], truncated=most < len(many)
        )

    browser = Browser(FakeBackend({("traceability", "GetLineage"): told}))
    assert 'id="h-e1400"' in browser.get("/lineage/x?event=e1400").text
    assert 'id="h-e0"' in browser.get("/lineage/x?event=nothing").text


@pytest.mark.parametrize("language", ["en", "zh"])
def test_names_are_text_in_both_languages(language: str) -> None:
    told = backend([hop("e1", HOSTILE, [("lot", HOSTILE)], [(HOSTILE, HOSTILE)])], of=("lot", HOSTILE))
    text = Browser(told, language=language).get("/lineage/x").text
    assert "<script>alert" not in text
    assert ("谱系" in text) == (language == "zh")


def test_a_thing_that_nobody_knows_is_no_page_and_the_box_leads_to_one() -> None:
    told = FakeBackend({("traceability", "GetLineage"): refused()})
    assert Browser(told).get("/lineage/nothing").status == 404
    assert "Name a thing above" in Browser(told).get("/lineage").text
    assert Browser(told).get("/lineage?id=m%2Fx").headers["location"] == "/lineage/m%2Fx"


def test_of_one_moment_the_cause_stands_before_its_effect() -> None:
    effect, cause = hop("b", "X", [], [], "a"), hop("a", "Y", [], [])
    assert [one.event for one in in_order([effect, cause])] == ["a", "b"]
    round_ = [hop("a", "X", [], [], "b"), hop("b", "Y", [], [], "a")]
    assert {one.event for one in in_order(round_)} == {"a", "b"}
