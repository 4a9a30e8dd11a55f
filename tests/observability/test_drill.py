"""A drill's own Prometheus and Alertmanager: a process goes, and somebody hears of it within seconds."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from deploy.drill.alarm import alarm, until
from deploy.watch.tools import need
from services.kit.testing.engines import HOST, free_port
from tests.unit.deploy.drill.fakes import FakeGround

PROCESS = {"process": "clinical.hospital-b", "site": "hospital-b"}


@contextmanager
def serving(port: int) -> Iterator[None]:
    """A process's metrics port, until the block ends."""

    class Numbers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(b'# TYPE pharmaloop_ready gauge\npharmaloop_ready{service="clinical"} 1\n')

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer((HOST, port), Numbers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.faults
def test_an_alert_is_seen_in_a_hurry_and_seen_to_end(tmp_path: Path) -> None:
    for program in ("prometheus", "alertmanager"):
        need(program)
    ground, port = FakeGround(tmp_path), free_port()
    ground.endpoints = {"metrics": {"clinical.hospital-b": f"{HOST}:{port}"}, "portal": "http://portal.test"}
    with serving(port), alarm(ground, hurried=True) as seen:
        assert "1/10" in seen.how
        assert seen.asked('up{job="pharmaloop"} == 1')
        assert seen.firing("ServiceGone", PROCESS) is None
    with alarm(ground, hurried=True) as seen:
        alert = until(lambda: seen.firing("ServiceGone", PROCESS), 90)
        assert alert is not None
        assert alert.receivers == ("pager", "site")
        assert alert.notes["portal"] == "http://portal.test/status"
        assert Path(alert.notes["runbook_url"]).is_file()
        assert seen.firing("ServiceGone", {"process": "rnd"}) is None
        with serving(port):
            assert until(lambda: seen.firing("ServiceGone", PROCESS) is None, 90)
