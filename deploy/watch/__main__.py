"""Watch the stack that runs here: `make watch`.

Prometheus scrapes it and judges the rules, Alertmanager routes what fires, and
what it sends is shown here and kept in `watch/notifications.jsonl` of the state
folder. Ends with Ctrl-C; the stack goes on.
"""

import json
import signal
import sys
import threading
from pathlib import Path

from deploy.local.plan import ROOT, state_dir
from deploy.local.ports import load_ports
from deploy.watch import files
from deploy.watch.engines import NotStarted, alertmanager, prometheus
from deploy.watch.receiver import HOST, Receiver
from deploy.watch.tools import ToolsError
from services.kit.testing.engines import EngineError


def watch(state: Path, stop: threading.Event) -> int:
    """Watch the stack of a state folder until told to stop; answers the exit code."""
    try:
        endpoints = json.loads((state / "endpoints.json").read_text())
    except FileNotFoundError:
        print("watch: no stack runs here: start one with `make up`", file=sys.stderr)
        return 1
    folder = state / "watch"
    folder.mkdir(parents=True, exist_ok=True)
    ports = load_ports(state, ["prometheus", "alertmanager"])
    receiver = Receiver(folder / "notifications.jsonl", lambda line: print(line, flush=True))
    places = files.Places(
        alertmanager=f"{HOST}:{ports['alertmanager']}",
        receiver=receiver.address,
        portal=endpoints.get("portal", ""),
        docs=str(ROOT),
    )
    found = files.targets(endpoints["metrics"])
    files.write(folder, places, found)
    try:
        with (
            alertmanager(folder, ports["alertmanager"]) as manager,
            prometheus(folder, ports["prometheus"]) as scraper,
        ):
            addresses = {"prometheus": scraper, "alertmanager": manager}
            (folder / "addresses.json").write_text(json.dumps(addresses) + "\n")
            print(f"watch: Prometheus {scraper} scrapes {len(found)} processes, Alertmanager {manager}")
            print("watch: 'make dashboard' in another terminal shows the dashboard Loops")
            print("watch: what fires is shown here; Ctrl-C ends it, the stack goes on", flush=True)
            stop.wait()
    finally:
        (folder / "addresses.json").unlink(missing_ok=True)
        receiver.close()
    return 0


def main() -> int:
    """Run until Ctrl-C or TERM."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        return watch(state_dir(), stop)
    except (ToolsError, NotStarted, EngineError) as error:
        print(f"watch: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
