"""The course of a drill: plant, wait for the alert, follow its runbook, undo, judge.

Whatever happens, Ctrl-C included, the fault is undone. It is written down
before it is planted, so that `drill undo` mends what a killed drill left.
"""

import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from deploy.drill import books, judging
from deploy.drill.alarm import Alarm, Alert, until
from deploy.drill.drills import DRILLS, Drill, Words
from deploy.drill.faults import GARBAGE_KEY
from deploy.drill.ground import Done, Ground
from deploy.drill.rules import FACTOR, shipped
from deploy.local.startup import ignore_signals, stop_on_signals
from deploy.watch.tools import ToolsError

#: How long an alert may take beyond its rule's own time: a look, a rule's turn, the way to the web hook.
_PATIENCE_SECONDS = 180.0
#: Commands that ask before they do it.
_ASKING = ("pharmaloop dlq discard", "pharmaloop dlq redrive")
Say = Callable[[str], None]


@dataclass
class Told:
    """What a drill did and found, for a program; people read it as it comes."""

    drill: str
    how: str = ""
    steps: list[dict[str, Any]] = field(default_factory=list)
    alert: Alert | None = None
    alert_seconds: float = 0.0
    checks: list[judging.Check] = field(default_factory=list)
    #: Whether it breaks something that an alert has to tell of.
    awaits_alert: bool = True
    #: What it measured, by name.
    measured: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        heard = self.alert is not None or not self.awaits_alert
        return heard and all(check.ok is not False for check in self.checks)

    def document(self) -> dict[str, Any]:
        alert = self.alert
        return {
            "drill": self.drill,
            "ok": self.ok,
            "judged_by": self.how,
            "alert": alert
            and {
                "name": alert.name,
                "labels": dict(alert.labels),
                "annotations": dict(alert.notes),
                "receivers": list(alert.receivers),
                "after_seconds": round(self.alert_seconds, 1),
            },
            "steps": self.steps,
            "checks": [{"what": c.what, "ok": c.ok, "told": c.told} for c in self.checks],
            **({"measured": self.measured} if self.measured else {}),
        }


class Course:
    """One drill on one stack."""

    def __init__(self, ground: Ground, drill: Drill, say: Say, *, hurried: bool = True) -> None:
        self._ground = ground
        self._drill = drill
        self._say = say
        self._hurried = hurried
        self.told = Told(drill.name)

    def run(self, alarm: Alarm) -> Told:
        """The whole course; `told.ok` is the verdict."""
        drill, say = self._drill, self._say
        say(f"drill {drill.name}: {drill.story}")
        say(f"alerts are judged by {alarm.how}")
        self.told.how = alarm.how
        was = judging.before(self._ground)
        with _planted(self._ground, drill, say):
            planted = time.monotonic()
            alert = until(lambda: alarm.firing(drill.alert, drill.labels), self._patience())
            self.told.alert, self.told.alert_seconds = alert, time.monotonic() - planted
            if alert is None:
                say(f"no alert {drill.alert} came within {self._patience():.0f} s")
            else:
                self._show(alert)
                self._follow(alarm)
        over = alert is None or bool(
            until(lambda: not alarm.firing(drill.alert, drill.labels), _PATIENCE_SECONDS)
        )
        say("the end is judged")
        self.told.checks = judging.judge(self._ground, was, over=over)
        self._verify()
        for check in self.told.checks:
            say(f"  {check.mark:<5}  {check.what}: {check.told}")
        say(f"drill {drill.name}: {'passed' if self.told.ok else 'FAILED'}")
        return self.told

    def _patience(self) -> float:
        longest = max(rule.seconds for rule in shipped() if rule.alert == self._drill.alert)
        return longest / (FACTOR if self._hurried else 1) + _PATIENCE_SECONDS

    def _show(self, alert: Alert) -> None:
        notes, say = alert.notes, self._say
        say(f"after {self.told.alert_seconds:.0f} s: {alert.name} ({alert.labels.get('severity', '')})")
        say(f"  {notes.get('summary', '')}")
        say(f"  {notes.get('description', '')}")
        say(f"  told to: {', '.join(alert.receivers) or 'nobody, for no Alertmanager runs'}")
        say(f"  portal:  {notes.get('portal', '')}")
        say(f"  runbook: {notes.get('runbook_url', '')}")

    def _follow(self, alarm: Alarm) -> None:
        """Look, then mend, as the runbook says."""
        drill, book = self._drill, books.read(self._drill.alert)
        words = drill.words(self._ground)
        self._say("look first")
        self._commands(book.commands.get("Look first", ()), words)
        for query in book.queries:
            self._query(alarm, query)
        for what, query in drill.asked.items():
            self._query(alarm, query, what)
        self._say(f"mend: {drill.remedy}")
        self._commands(drill.by_hand(self._ground), {})
        mending = [line for line in book.commands.get("Mend", ()) if line.startswith(tuple(drill.mend))]
        self._commands(mending if drill.mend else (), words)

    def _verify(self) -> None:
        """Its runbook's last look, once everything is undone."""
        book = books.read(self._drill.alert)
        self._say("verify")
        self._commands(book.commands.get("Verify", ()), {})

    def _commands(self, lines: Sequence[str], words: Words) -> None:
        for line in lines:
            made = books.filled(line, words)
            if not made:
                self._say(f"  not run, nothing here to fill in: {line}")
            for one in made:
                shown(self.told, self._say, self._ground.run(_agreed(one)))

    def _query(self, alarm: Alarm, query: str, what: str = "") -> None:
        try:
            answer = alarm.asked(query)
        except (ToolsError, OSError, ValueError) as error:
            self._say(f"  not asked: {error}")
            return
        self.told.steps.append({"query": query, "answer": answer})
        self._say(f"  {what or 'Prometheus'}: {query}")
        for line in answer or ["(nothing)"]:
            self._say(f"    {line}")


def shown(told: Told, say: Say, done: Done) -> Done:
    """Note a command that was run, and show it with what it printed."""
    told.steps.append({"command": done.line, "output": done.output, "status": done.status})
    say(f"  $ {done.line}")
    for text in done.output.splitlines():
        say(f"    {text}")
    if done.status:
        say(f"    [exit status {done.status}]")
    return done


def _agreed(line: str) -> str:
    """As the drill gives it: its own reason, and yes, for nobody is there to be asked."""
    if not line.startswith(_ASKING):
        return line
    return re.sub(r'--reason "[^"]*"', f'--reason "{GARBAGE_KEY}"', line) + " --yes"


@contextmanager
def _planted(ground: Ground, drill: Drill, say: Say) -> Iterator[None]:
    """The fault stands inside, and is undone whatever ends it."""
    ground.folder.mkdir(parents=True, exist_ok=True)
    site = drill.labels.get("site", "")
    ground.planted.write_text(json.dumps({"drill": drill.name, "site": site}) + "\n")
    try:
        say(f"planted: {drill.fault.plant(ground)}")
        yield
    finally:
        ignore_signals()
        try:
            say(f"undone: {drill.fault.undo(ground)}")
            ground.planted.unlink(missing_ok=True)
        finally:
            stop_on_signals()


def undo(ground: Ground, say: Say, default_site: str) -> bool:
    """Undo what a drill that was killed has left; answers whether there was anything."""
    if not ground.planted.exists():
        return False
    record = json.loads(ground.planted.read_text())
    drill = DRILLS[record["drill"]](record["site"] or default_site)
    say(f"undone: {drill.fault.undo(ground)}")
    ground.planted.unlink()
    return True
