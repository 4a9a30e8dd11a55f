"""The judge of policies: what it waives has a reason, and it does not take silence for praise."""

from __future__ import annotations

import pytest

from deploy.charts.policy import WAIVERS, Finding, _parse


def test_a_waiver_covers_what_it_says_and_no_more() -> None:
    assert Finding("CKV_K8S_8", "liveness", "Pod", "pharmaloop-test").waived
    assert not Finding("CKV_K8S_8", "liveness", "StatefulSet", "pharmaloop-production").waived
    assert not Finding("CKV_K8S_16", "privileged", "Pod", "pharmaloop-test").waived


def test_every_waiver_has_a_reason() -> None:
    assert all(len(waiver.reason.split()) > 5 for waiver in WAIVERS.values())


def test_a_report_about_nothing_is_no_praise() -> None:
    with pytest.raises(RuntimeError, match="checked nothing"):
        _parse([], passed=0)


def test_a_finding_names_kind_and_resource() -> None:
    raw = {"check_id": "CKV_K8S_43", "check_name": "digest", "resource": "StatefulSet.pharma.pharmaloop-rnd"}
    (found,) = _parse([raw], passed=3)
    assert str(found) == "CKV_K8S_43 (digest): StatefulSet pharmaloop-rnd"
