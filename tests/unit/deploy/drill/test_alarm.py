"""Who sees that an alert fires."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.drill.alarm import ByAlertmanager, BySignal
from deploy.drill.rules import Sample, shipped
from deploy.watch.tools import ToolsError

GONE = Sample("up", {"job": "pharmaloop", "process": "rnd", "service": "rnd", "instance": "h:1"}, 0.0)
RND = {"process": "rnd"}


def test_a_number_fires_once_it_has_held_as_long_as_its_rule_says() -> None:
    now, samples = [100.0], [GONE]
    alarm = BySignal(lambda: samples, shipped(), 10, "", lambda: now[0])
    assert alarm.firing("ServiceGone", RND) is None
    now[0] = 105.9
    assert alarm.firing("ServiceGone", RND) is None
    now[0] = 106.0
    alert = alarm.firing("ServiceGone", RND)
    assert alert is not None
    assert alert.notes["summary"] == "rnd does not answer at h:1"
    assert (alert.labels["severity"], alert.receivers) == ("page", ())
    assert alarm.firing("ServiceGone", {"process": "loops"}) is None
    samples.clear()
    assert alarm.firing("ServiceGone", RND) is None
    samples.append(GONE)
    assert alarm.firing("ServiceGone", RND) is None, "it begins anew"
    with pytest.raises(ToolsError):
        alarm.asked("up")


def test_of_notifications_the_last_one_of_each_receiver_counts(tmp_path: Path) -> None:
    kept = tmp_path / "notifications.jsonl"
    alarm = ByAlertmanager(kept, "http://127.0.0.1:9", "")
    assert alarm.firing("ServiceGone", RND) is None

    def told(receiver: str, status: str, process: str = "rnd") -> None:
        labels = {"alertname": "ServiceGone", "process": process}
        alert = {"status": status, "labels": labels, "annotations": {"summary": "gone"}}
        with kept.open("a") as file:
            file.write(json.dumps({"receiver": receiver, "alerts": [alert]}) + "\n")

    told("pager", "firing", "loops")
    assert alarm.firing("ServiceGone", RND) is None
    told("pager", "firing")
    told("site", "firing")
    with kept.open("a") as file:
        file.write('{"receiver": "pager", "al')
    alert = alarm.firing("ServiceGone", RND)
    assert alert is not None
    assert alert.receivers == ("pager", "site")
    kept.write_text("")
    for receiver in ("pager", "site"):
        told(receiver, "firing")
        told(receiver, "resolved")
    assert alarm.firing("ServiceGone", RND) is None
