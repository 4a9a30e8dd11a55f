"""An agent speaks for one hospital, and asks no other's service about patients."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from services.exchange.evaluator.main import make_spec as make_evaluator
from services.exchange.site.main import clinical_of, exchange_of, make_spec
from services.kit.errors import Invalid

_FIRST, _SECOND = "hospital-a", "hospital-b"
_ALL = {"exchange": "ex:1", "clinical": "a:1", f"clinical.{_SECOND}": "b:1"}


def _app(site: str, endpoints: dict[str, str], *, clinical: str = "", exchange: str = "") -> Any:
    return SimpleNamespace(
        site=site,
        settings=SimpleNamespace(clinical=clinical, exchange=exchange),
        platform=SimpleNamespace(endpoints=endpoints, sites=(_FIRST, _SECOND)),
    )


@pytest.mark.parametrize(
    ("site", "own", "address"),
    [(_FIRST, "", "a:1"), (_SECOND, "", "b:1"), (_SECOND, "c:1", "c:1")],
    ids=["the first's is called clinical alone", "by its name", "by its setting"],
)
def test_the_clinical_service_of_the_site(site: str, own: str, address: str) -> None:
    assert clinical_of(_app(site, _ALL, clinical=own)) == address


def test_another_hospitals_service_is_never_taken_instead() -> None:
    known = {"exchange": "ex:1", "clinical": "a:1"}
    with pytest.raises(Invalid) as refused:
        make_spec().connect(_app(_SECOND, known))
    said = refused.value.description
    assert said.startswith("PHARMALOOP_AGENT_CLINICAL: "), "the key"
    assert "clinical service of site hospital-b" in said, "the site"
    assert "clinical alone, which is that of hospital-a" in said, "what it might have been mistaken for"
    assert "set it to host:port, or name clinical.hospital-b in PHARMALOOP_ENDPOINTS" in said, "the next step"


def test_without_the_exchange_neither_agent_nor_evaluator_starts() -> None:
    assert exchange_of(_app(_FIRST, _ALL)) == "ex:1"
    with pytest.raises(Invalid, match="PHARMALOOP_AGENT_EXCHANGE"):
        make_spec().connect(_app(_FIRST, {"clinical": "a:1"}))
    with pytest.raises(Invalid, match="PHARMALOOP_EVALUATOR_EXCHANGE"):
        make_evaluator().connect(_app("", {}))


def test_a_source_of_its_own_needs_no_clinical_service() -> None:
    source: Any = object()
    make_spec(lambda app: source).connect(_app(_SECOND, {"exchange": "ex:1"}))
