"""The dossier as a PDF: all that the dossier says is on it, in both languages, whatever people wrote."""

from __future__ import annotations

import hashlib
import io
import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from pypdf import PdfReader

from pharmaloop.production.v1 import service_pb2 as api
from pharmaloop.traceability.v1 import dossier_pb2
from pharmaloop.traceability.v1 import events_pb2 as events
from pharmaloop.traceability.v1 import service_pb2 as trace
from services.portal.backend import Missing
from services.portal.languages import Language
from services.portal.pages import lots
from services.portal.papers.dossier import Taken, dossier_paper
from services.portal.papers.letters import NO_GLYPH, lines, runs, whole, width, written
from services.portal.words import WORDS
from tests.unit.portal.fakes import HOSTILE, Browser, FakeBackend, refused

_LOT = "maker-1/item/granulate/G-0071"
_AT = "/lots/maker-1%2Fitem%2Fgranulate%2FG-0071"
_MADE = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)


def _text(pdf: bytes) -> list[str]:
    """The text of each page without spaces: a line may be broken anywhere."""
    return [re.sub(r"\s", "", page.extract_text()) for page in PdfReader(io.BytesIO(pdf)).pages]


def _filled(message: Message, count: Iterator[int]) -> None:
    """Something of its own in every field, two of what repeats; nothing withheld and nothing hidden."""
    for field in message.DESCRIPTOR.fields:
        # A saying is the sentence beside it once more; a code that nobody knows is not printed.
        said = field.name.endswith(("saying", "sayings"))
        if said or field.name in ("withheld", "inputs_withheld", "key", "reason"):
            continue
        for _ in range(2 if field.is_repeated else 1):
            _fill(message, field, count)


def _fill(message: Message, field: Any, count: Iterator[int]) -> None:
    number = next(count)
    if field.message_type is not None:
        held = getattr(message, field.name)
        part = held.add() if field.is_repeated else held
        if isinstance(part, Timestamp):
            part.FromSeconds(1_600_000_000 + 100_000 * number)
        else:
            part.SetInParent()
            _filled(part, count)
        return
    value: Any = {field.TYPE_STRING: f"{field.name}-{number}", field.TYPE_BOOL: True}.get(
        field.type, 10_000 + number
    )
    if field.is_repeated:
        getattr(message, field.name).append(value)
    else:
        setattr(message, field.name, value)


def _leaves(message: Message) -> Iterator[Any]:
    for field, value in message.ListFields():
        for one in value if field.is_repeated else [value]:
            if isinstance(one, Message) and not isinstance(one, Timestamp):
                yield from _leaves(one)
            elif not isinstance(one, bool):
                yield one


def _full() -> dossier_pb2.LotDossier:
    dossier = dossier_pb2.LotDossier()
    _filled(dossier, iter(range(1, 10_000)))
    return dossier


def _taken(dossier: dossier_pb2.LotDossier, **more: Any) -> Taken:
    usual: dict[str, Any] = {"key": _LOT, "lot": None, "exposures": {}, "digest": "f" * 64, "made": _MADE}
    return Taken(dossier=dossier, **usual | more)


@pytest.mark.parametrize("code", ["en", "zh"])
def test_every_field_of_the_dossier_is_on_paper(code: str) -> None:
    language, dossier = Language(code), _full()
    text = "".join(_text(dossier_paper(_taken(dossier), language)))
    for leaf in _leaves(dossier):
        if isinstance(leaf, Timestamp):
            said = language.moment(leaf)
        elif isinstance(leaf, str):
            said = leaf
        else:
            said = language.number(leaf, 6)
        assert re.sub(r"\s", "", said) in text, said


def test_headings_repeat_and_pages_are_numbered() -> None:
    dossier = dossier_pb2.LotDossier(lot=_LOT)
    for n in range(400):
        dossier.distribution.places.add(place=f"store-{n:05}", received=n, unit="kg")
    pages = _text(dossier_paper(_taken(dossier), Language("en")))
    assert len(pages) > 5
    for number, page in enumerate(pages, 1):
        assert f"Page{number}of{len(pages)}" in page
        assert _LOT in page
        assert ("PlaceReceivedSentonUnit" in page) == ("store-" in page)
    assert "第1页，共" in _text(dossier_paper(_taken(dossier), Language("zh")))[0]


def test_a_text_longer_than_a_page_goes_on_and_loses_nothing() -> None:
    dossier = dossier_pb2.LotDossier(lot=_LOT)
    dossier.process.steps.add(what="HELD", who="名" * 200, why=" ".join(f"w{n:04}" for n in range(3_000)))
    text = "".join(_text(dossier_paper(_taken(dossier), Language("en"))))
    assert [n for n in range(3_000) if f"w{n:04}" not in text] == []
    assert text.count("名") == 200


@pytest.mark.parametrize("name", [HOSTILE, "שלום", "💊 pill", "مرحبا", "\ud800", "x" * 200, "a\nb\tc\u0000"])
def test_no_name_breaks_the_paper_and_what_cannot_be_written_is_seen(name: str) -> None:
    dossier = dossier_pb2.LotDossier(lot=_LOT)
    dossier.distribution.places.add(place="place")
    reason = "" if "\ud800" in name else name  # no message holds it, an address does
    taken = _taken(dossier, lot=api.Lot(reason=reason), key=f"{_LOT}{name}")
    text = "".join(_text(dossier_paper(taken, Language("zh"))))
    assert re.sub(r"\s", "", written(name)) in text
    assert (NO_GLYPH in written(name)) == any(ord(letter) > 0x590 or letter == "\0" for letter in name)


def test_lines_keep_to_their_room_and_to_every_letter() -> None:
    for text in (
        "maker-1/gtin/06901234500547/A-00001 and so on",
        "批次因偏差暂停，等待质量负责人判定。" * 3,
        "x" * 90,
    ):
        for room in (30.0, 77.0, 200.0):
            broken = lines(text, room, 9.0)
            assert all(width(line, 9.0) <= room for line in broken)
            assert "".join(broken).replace(" ", "") == text.replace(" ", "")
            assert not any(line.startswith(("，", "。")) for line in broken if room > 30)


_ID = "0b7a6c1e-4f52-4a05-9d3c-7be2f4c1a0"


def _crowded() -> dossier_pb2.LotDossier:
    """Tables with long words of many kinds beside each other."""
    dossier = dossier_pb2.LotDossier(lot=_LOT)
    run = dossier.exposed.runs.add(run=f"{_ID}05", root=_LOT)
    run.lots.extend(f"maker-1/gtin/06901234500547/A-{number:05}" for number in range(3))
    site = run.sites.add(site="hospital-north-clinic", told=True)
    site.people.dispenses.value, site.people.patients.value = 1_234_567, 987_654
    site.people.notified.withheld = True
    for number in range(4):
        decision = dossier.decisions.decisions.add(
            what="CAPA_APPROVED",
            who="Anna-Maria Schmidt-Rottluff",
            why="The curve of 12,345.678 mbar is real, and it is judged by what was measured.",
            meaning="I approve this change.",
            subject=f"{_ID}{number:02}",
            run=f"{_ID}05",
        )
        decision.at.FromSeconds(1_780_000_000 + 90_061 * number)
    return dossier


@pytest.mark.parametrize("code", ["en", "zh"])
def test_no_number_moment_or_id_is_broken(code: str) -> None:
    language, dossier = Language(code, "Asia/Shanghai"), _crowded()
    journal = events.ExposureAnnounced(run=f"{_ID}05")
    journal.sites["hospital-north-clinic"].digest = bytes(range(32))
    paper = dossier_paper(_taken(dossier, exposures={f"{_ID}05": journal}), language)
    pages = [page.extract_text() for page in PdfReader(io.BytesIO(paper)).pages]
    rows = [" ".join(row.split()) for page in pages for row in page.split("\n")]
    moments = [" ".join(language.moment(one.at).split()) for one in dossier.decisions.decisions]
    counts = [language.count(number) for number in (1_234_567, 987_654)]
    ids = [f"{_ID}{number:02}" for number in range(4)]
    listed = dossier.exposed.runs[0].lots
    for one in (*moments, *counts, *ids, *listed, bytes(range(32)).hex(), "12,345.678"):
        assert any(one in row for row in rows), one


def test_an_id_is_broken_behind_its_hyphens_alone() -> None:
    for room in (80.0, 60.0, 55.0):
        for line in lines(f"{_ID}05", room, 8.0)[:-1]:
            assert line.endswith("-")
    assert all(len(line) > 1 for line in lines("-12.5 and -0.001", 30.0, 8.0))
    assert lines("12,345.678", 20.0, 8.0) != ["12,345.678"]  # where nothing else has room for it


def test_what_stays_together_is_one_word() -> None:
    moment = Language("zh").moment(_MADE)
    assert len(lines(moment, 60.0, 8.0)) > 1
    room = width(whole(moment), 8.0) + 1
    assert lines(f"于 {whole(moment)}", room, 8.0) == ["于", whole(moment)]
    drawn = "".join(part for _, part in runs(whole(moment)))
    assert drawn == moment


@pytest.mark.parametrize("code", ["en", "zh"])
def test_who_signed_and_what_that_means_stand_in_the_paper(code: str) -> None:
    dossier = dossier_pb2.LotDossier(lot=_LOT)
    capa = dossier.evidence.runs.add(run="r-1").capa
    capa.capa, capa.approved_by, capa.approval_meaning = "c-1", "王芳", "I approve this change."
    capa.approved.FromSeconds(1_780_000_000)
    told = {"what": "HAZARD_EVALUATED", "who": "李雷", "subject": "class II", "meaning": "I judged."}
    dossier.decisions.decisions.add(**told)
    text = "".join(_text(dossier_paper(_taken(dossier), Language(code))))
    for said in ("王芳", "Iapprovethischange.", "李雷", "Ijudged."):
        assert said in text
    hazard = Language(code).say(WORDS["HAZARD_CLASS_II"])
    assert re.sub(r"\s", "", hazard) in text
    assert "classII" not in text


def _backend(**answers: Any) -> FakeBackend:
    answer = trace.GetLotDossierResponse()
    answer.dossier.lot = _LOT
    run = answer.dossier.exposed.runs.add(run="run-of-the-safety-loop")
    run.sites.add(site="hospital-a", told=True)
    journal = trace.GetExposureResponse()
    journal.announced.version = 4
    journal.announced.sites["hospital-a"].CopyFrom(
        events.SiteExposure(epoch=17, n=3, digest=bytes(range(32)))
    )
    return FakeBackend(
        answers={
            ("production", "GetLot"): api.GetLotResponse(lot=api.Lot(lot=_LOT, transfer="transfer:t-1")),
            ("traceability", "GetLotDossier"): answer,
            ("traceability", "GetExposure"): journal,
        }
    )


def test_the_paper_is_taken_from_the_portal_with_epochs_and_digests() -> None:
    browser = Browser(_backend())
    answer = browser.get(f"{_AT}/dossier.pdf")
    assert answer.headers["content-type"] == "application/pdf"
    assert answer.headers["content-disposition"] == (
        'attachment; filename="dossier-maker-1-item-granulate-G-0071.pdf"'
    )
    file = PdfReader(io.BytesIO(answer.body))
    assert file.metadata is not None
    assert file.metadata.title == f"Dossier of lot {_LOT}"
    text = "".join(_text(answer.body))
    digest = hashlib.sha256(browser.get(f"{_AT}/dossier.json").body).hexdigest()
    for said in ("run-of-the-safety-loop", "transfer:t-1", bytes(range(32)).hex(), digest, "version4", "17"):
        assert said in text
    assert "Notherenow:Howtheserviceruns,andtheplatform'stime" in text  # its clock did not answer


def test_without_the_trace_there_is_no_paper() -> None:
    backend = _backend()
    backend.answers["traceability", "GetLotDossier"] = Missing("traceability", "away")
    assert Browser(backend).get(f"{_AT}/dossier.pdf").status == 503
    backend.answers["traceability", "GetLotDossier"] = refused()
    assert Browser(backend).get(f"{_AT}/dossier.pdf").status == 404
    backend = _backend()
    backend.answers["production", "GetLot"] = refused()
    assert Browser(backend).get(f"{_AT}/dossier.pdf").status == 200


def test_pages_lead_to_the_paper() -> None:
    browser = Browser(_backend())
    for page in (_AT, f"{_AT}/dossier"):
        assert f'href="{_AT}/dossier.pdf"' in browser.get(page).text


def test_ten_thousand_rows_are_made_beside_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backend = _backend()
    threads: list[threading.Thread] = []

    def make(taken: Taken, language: Language) -> bytes:
        threads.append(threading.current_thread())
        return dossier_paper(taken, language)

    monkeypatch.setattr(lots, "dossier_paper", make)
    places = backend.answers["traceability", "GetLotDossier"].dossier.distribution.places
    for n in range(10_000):
        places.add(place=f"store-{n:05}", received=1, unit="kg")
    file = PdfReader(io.BytesIO(Browser(backend).get(f"{_AT}/dossier.pdf").body))
    assert threads[0] is not threading.main_thread()
    assert any("store-09999" in page.extract_text() for page in file.pages[-3:])
