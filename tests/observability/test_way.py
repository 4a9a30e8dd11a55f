"""An alert's whole way: a process's metric, a real Prometheus, a real Alertmanager, the web hook."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.local.plan import CLINICAL
from deploy.watch import __main__ as command
from deploy.watch import files
from deploy.watch.engines import alertmanager, prometheus
from deploy.watch.receiver import Receiver, lines
from services.kit.metrics import DIGEST_MISMATCHES, RUNS_OPEN, Metrics
from services.kit.testing.engines import HOST, free_port
from tests.observability.conftest import PROMETHEUS, Run

PLACES = files.Places("127.0.0.1:9", "http://127.0.0.1:8", "http://portal.test", "/checkout")


def test_targets_are_the_processes_with_their_service_and_site() -> None:
    metrics = {
        "rnd": "h:1",
        "clinical": "h:2",
        "clinical.hospital-b": "h:3",
        "agent.hospital-c": "h:4",
        "world": "h:5",
    }
    found = {one["targets"][0]: one["labels"] for one in files.targets(metrics)}
    assert found == {
        "h:1": {"service": "rnd", "process": "rnd"},
        "h:2": {"service": "clinical", "process": "clinical", "site": CLINICAL["clinical"]},
        "h:3": {"service": "clinical", "process": "clinical.hospital-b", "site": "hospital-b"},
        "h:4": {"service": "agent", "process": "agent.hospital-c", "site": "hospital-c"},
    }, "the world ends when its story is told"


def test_files_are_placed_whole_and_checked(tmp_path: Path, run: Run) -> None:
    (tmp_path / "alerting").mkdir()
    (tmp_path / "alerting" / "old.rules.yaml").write_text("of an earlier version")
    files.write(tmp_path, PLACES, files.targets({"rnd": "127.0.0.1:7"}))
    done = run("promtool", "check", "config", tmp_path / "prometheus.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert run("amtool", "check-config", tmp_path / "alertmanager.yaml").returncode == 0
    written = {file.name: file.read_text() for file in tmp_path.rglob("*.yaml")}
    assert not [name for name, text in written.items() if ".example" in text.replace("# ", "")]
    rules = yaml.safe_load(written["patients.rules.yaml"])["groups"][0]["rules"]
    assert rules[0]["annotations"]["portal"] == "http://portal.test/sites/{{ $labels.site }}"
    assert rules[0]["annotations"]["runbook_url"] == "/checkout/docs/runbooks/DigestMismatch.md"
    shipped = {file.name for kind in ("recording", "alerting") for file in (PROMETHEUS / kind).iterdir()}
    assert shipped <= {file.name for file in tmp_path.rglob("*.rules.yaml")}


def test_a_notification_is_one_line_and_where_to_look() -> None:
    told = {
        "alerts": [
            {
                "status": "firing",
                "labels": {"alertname": "RunStalled"},
                "annotations": {"summary": "late", "portal": "P", "runbook_url": "R"},
            },
            {"status": "resolved", "labels": {"alertname": "ClockSkew"}, "annotations": {}},
        ]
    }
    assert lines("pager", told) == [
        "pager: firing RunStalled: late",
        "  P  R",
        "pager: resolved ClockSkew: is over",
    ]


def test_without_a_stack_it_says_how_to_start_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import threading

    assert command.watch(tmp_path, threading.Event()) == 1
    assert "make up" in capsys.readouterr().err


def test_a_stalled_recall_and_a_missing_patient_reach_whom_they_should(tmp_path: Path) -> None:
    loops, clinical = Metrics("loops"), Metrics("clinical")
    loops.set(RUNS_OPEN, 1, loop="safety", stage="notify", state="stalled")
    clinical.set(DIGEST_MISMATCHES, 1, site="hospital-b")
    served = {
        "loops": f"{HOST}:{loops.serve(HOST, 0)}",
        "clinical.hospital-b": f"{HOST}:{clinical.serve(HOST, 0)}",
        # Nobody listens there.
        "rnd": f"{HOST}:{free_port()}",
    }
    kept, said = tmp_path / "notifications.jsonl", list[str]()
    receiver = Receiver(kept, said.append)
    manager = free_port()
    places = files.Places(f"{HOST}:{manager}", receiver.address, "http://portal.test", "")
    files.write(tmp_path, places, files.targets(served))
    _hurry(tmp_path)
    with alertmanager(tmp_path, manager), prometheus(tmp_path, free_port()) as scraper:
        wanted = {
            ("pager", "RunStalled", ""),
            ("pager", "DigestMismatch", "hospital-b"),
            ("site", "DigestMismatch", "hospital-b"),
            ("pager", "ServiceGone", ""),
        }
        _until(lambda: wanted <= _told(kept, "firing"), 60.0, said)
        assert _up(scraper) == {"loops": 1, "clinical.hospital-b": 1, "rnd": 0}
        loops.set(RUNS_OPEN, 0, loop="safety", stage="notify", state="stalled")
        _until(lambda: ("pager", "RunStalled", "") in _told(kept, "resolved"), 60.0, said)
    receiver.close()
    assert "pager: firing RunStalled: 1 recall(s) are past the deadline of stage notify" in said
    assert "  http://portal.test/sites/hospital-b  docs/runbooks/DigestMismatch.md" in said
    assert not [one for one in _told(kept, "firing") if one[1] in ("RunnerDown", "KafkaUnreachable")]


def _hurry(folder: Path) -> None:
    """The same files, in seconds: what stands there for minutes keeps short troubles silent."""
    for file in folder.glob("alerting/*.yaml"):
        raw = yaml.safe_load(file.read_text())
        for group in raw["groups"]:
            for rule in group["rules"]:
                rule.pop("for", None)
        file.write_text(yaml.safe_dump(raw))
    file = folder / "prometheus.yaml"
    raw = yaml.safe_load(file.read_text())
    raw["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    file.write_text(yaml.safe_dump(raw))
    file = folder / "alertmanager.yaml"
    raw = yaml.safe_load(file.read_text())
    raw["route"] |= {"group_wait": "1s", "group_interval": "1s"}
    file.write_text(yaml.safe_dump(raw))


def _told(kept: Path, status: str) -> set[tuple[str, str, str]]:
    """Receiver, alert and site of what came so far."""
    if not kept.exists():
        return set()
    return {
        (told["receiver"], alert["labels"]["alertname"], alert["labels"].get("site", ""))
        for told in map(json.loads, kept.read_text().splitlines())
        for alert in told["alerts"]
        if alert["status"] == status
    }


def _up(scraper: str) -> dict[str, int]:
    with urllib.request.urlopen(f"{scraper}/api/v1/query?query=up", timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
    return {one["metric"]["process"]: int(one["value"][1]) for one in found["data"]["result"]}


def _until(condition: Callable[[], bool], seconds: float, said: list[str]) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, said
        time.sleep(0.2)
