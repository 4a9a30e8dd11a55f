"""A web hook that receives what Alertmanager sends, shows it, and keeps it: the end of an alert's way."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"


def lines(receiver: str, told: dict[str, Any]) -> list[str]:
    """What a person reads of a notification: one line an alert, and where to look."""
    found = []
    for alert in told.get("alerts", ()):
        labels, notes = alert.get("labels", {}), alert.get("annotations", {})
        said = notes.get("summary", "") if alert.get("status") == "firing" else "is over"
        found.append(f"{receiver}: {alert.get('status')} {labels.get('alertname')}: {said}")
        if alert.get("status") == "firing":
            found.append(f"  {notes.get('portal', '')}  {notes.get('runbook_url', '')}")
    return found


class Receiver:
    """Listens on a free port of this machine. Each notification goes to `say`, line by line, and to a file
    of JSON lines, with the receiver that Alertmanager chose."""

    def __init__(self, kept: Path, say: Callable[[str], None]) -> None:
        lock = threading.Lock()

        class Hook(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                who = self.path.strip("/")
                try:
                    told = json.loads(body)
                except ValueError:
                    self.send_error(400, "this is not JSON")
                    return
                with lock:
                    with kept.open("a") as file:
                        file.write(json.dumps({"receiver": who, **told}) + "\n")
                    for line in lines(who, told):
                        say(line)
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Nothing: what came is shown, who asked is not."""

        kept.parent.mkdir(parents=True, exist_ok=True)
        self._server = ThreadingHTTPServer((HOST, 0), Hook)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
