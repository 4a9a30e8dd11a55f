"""What a page holds back, as a real Alertmanager judges it, and what nothing may hold back."""

from __future__ import annotations

import json
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator

import pytest

from deploy.watch import files
from deploy.watch.engines import alertmanager
from services.kit.testing.engines import HOST, free_port
from services.loops.domain.cases import STAGES
from tests.observability.conftest import ALERTS

Labels = dict[str, str]
GONE = {"alertname": "ServiceGone", "severity": "page", "service": "clinical", "site": "hospital-b"}
#: Alerts of the shipped rules that are told of a run of a loop, and not of a service.
OF_LOOPS = ("RunStalled", "LoopLatencyBudget")
#: Seconds that Alertmanager has for it on a busy machine.
PATIENCE = 60
Judge = Callable[[list[Labels]], list[Labels]]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("alertmanager")
    # Nobody listens at the receivers: what is held back is asked of Alertmanager itself.
    nowhere = f"http://{HOST}:{free_port()}"
    files.write(folder, files.Places(f"{HOST}:9", nowhere, "", ""), files.targets({}))
    with alertmanager(folder, free_port()) as found:
        yield found


@pytest.fixture
def held_back(address: str) -> Iterator[Judge]:
    """Tells which of these alerts are held back while all of them fire; afterwards none does."""
    fired: list[Labels] = []

    def judge(alerts: list[Labels]) -> list[Labels]:
        last = _last()
        fired.extend([*alerts, *last])
        _post(address, fired, 600)
        end = time.monotonic() + PATIENCE
        while last[0] not in (held := _held(address)):
            assert time.monotonic() < end, f"{len(_firing(address))} of {len(fired)} alerts arrived"
            time.sleep(0.05)
        return [labels for labels in held if labels not in last]

    yield judge
    _post(address, fired, -1)
    end = time.monotonic() + PATIENCE
    while _firing(address):
        assert time.monotonic() < end
        time.sleep(0.05)


def _last() -> list[Labels]:
    """A ticket and the page that holds it back, to be posted last: Alertmanager lists an alert before it
    judges what that one holds back, and judges in the order of arrival, so once this ticket is held back
    all before it is judged."""
    name = f"PostedLast{uuid.uuid4().hex}"
    return [{"alertname": name, "severity": severity} for severity in ("ticket", "page")]


def _held(address: str) -> list[Labels]:
    return [labels for labels, by in _firing(address) if by]


def _post(address: str, alerts: list[Labels], seconds: int) -> None:
    ends = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))
    body = json.dumps([{"labels": labels, "endsAt": ends} for labels in alerts]).encode()
    request = urllib.request.Request(
        f"{address}/api/v2/alerts", body, {"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=10):
        pass


def _firing(address: str) -> list[tuple[Labels, list[str]]]:
    with urllib.request.urlopen(f"{address}/api/v2/alerts", timeout=10) as answer:
        return [(one["labels"], one["status"]["inhibitedBy"]) for one in json.load(answer)]


def every_alert() -> list[Labels]:
    """Every alert that there may be: of the platform, of the hospital that is gone and of another one, or,
    of loops, of every stage."""
    found = []
    for rule in ALERTS:
        labels = {"alertname": rule.name, "severity": rule.severity}
        if rule.name == "RunStalled":
            found += [
                labels | {"loop": loop, "stage": stage} for loop, stages in STAGES.items() for stage in stages
            ]
        elif rule.name == "LoopLatencyBudget":
            found += [labels | {"loop": loop} for loop in STAGES]
        else:
            found += [labels | {"service": "clinical", "site": f"hospital-{name}"} for name in "ab"]
            found.append(labels | {"service": "traceability"})
    return found


def test_a_hospital_that_is_gone_holds_back_two_pages_and_nothing_else(held_back: Judge) -> None:
    # Databases and brokers hold back by rules of their own, and a page its own ticket.
    engines = ("DatabaseUnreachable", "KafkaUnreachable")
    pages = [one for one in every_alert() if one["severity"] == "page" and one["alertname"] not in engines]
    assert GONE in pages
    late = {"alertname": "LoopLatencyBudget", "severity": "page", "loop": "safety"}
    stalled = {"alertname": "RunStalled", "severity": "page", "loop": "safety", "stage": "receive"}
    assert sorted(held_back(pages), key=str) == sorted([late, stalled], key=str)


def test_recalls_that_are_late_still_are_told_of_when_the_hospital_is_back(
    held_back: Judge, address: str
) -> None:
    stalled = {"alertname": "RunStalled", "severity": "page", "loop": "safety", "stage": "receive"}
    assert held_back([GONE, stalled]) == [stalled]
    _post(address, [GONE], -1)
    end = time.monotonic() + PATIENCE
    while (stalled, []) not in _firing(address):
        assert time.monotonic() < end, _firing(address)
        time.sleep(0.05)


def test_tickets_about_late_stages_go_on(held_back: Judge) -> None:
    ticket = {"alertname": "LoopLatencyBudget", "severity": "ticket", "loop": "safety"}
    assert held_back([GONE, ticket]) == []


@pytest.mark.parametrize(
    "gone",
    [
        GONE | {"service": "agent"},
        {"alertname": "ServiceGone", "severity": "page", "service": "rnd"},
        # Of a service without a hospital nobody knows which recalls it keeps waiting.
        {"alertname": "ServiceGone", "severity": "page", "service": "traceability"},
        {"alertname": "DatabaseUnreachable", "severity": "page", "service": "clinical", "site": "hospital-b"},
        {"alertname": "DigestMismatch", "severity": "page", "site": "hospital-b"},
    ],
    ids=lambda labels: "-".join(labels[name] for name in ("alertname", "service") if name in labels),
)
def test_nothing_but_a_hospitals_process_explains_late_recalls(held_back: Judge, gone: Labels) -> None:
    pages = [one for one in every_alert() if one["alertname"] in OF_LOOPS and one["severity"] == "page"]
    assert held_back([gone, *pages]) == []


def test_what_names_a_patient_or_another_hospital_is_told_whatever_else_is_ill(held_back: Judge) -> None:
    patients = {"DigestMismatch", "PatientsNotTold", "PatientsWithoutRecord", "UnattributedExposures"}
    told = patients | {"DeadLettersWait", "OutboxBlocked", "ServiceGone"}
    found = held_back(every_alert())
    # A ticket of what somebody was woken for is no news.
    hidden = {one["alertname"] for one in found if one["severity"] == "page"} | {
        one["alertname"] for one in found if one["alertname"] in patients
    }
    assert not hidden & told
    assert "RunStalled" in hidden
