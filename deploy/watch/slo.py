"""Makes the rules that watch promises: several windows, several burn rates.

A promise may be broken a little: the error budget. It burns at rate 1 when it
is just used up at the end of its thirty days. A page needs a rate that uses up
2 % of it in an hour, or 5 % in six; a ticket one that uses up 10 % in a day or
in three. The short window beside each long one ends the alert soon after the
trouble (Google, The Site Reliability Workbook, chapter 5: the same factors).

A share of little says nothing: an alert wants a least number of failures in the
long window. It counts failures and not calls, so that a service that is seldom
called, and fails each time, is told of. And nothing is judged before the short
window has passed once: in the first minutes of a platform a long window holds
these minutes alone.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parents[1] / "prometheus"
#: Severity: pairs of windows, the long one first, with the burn rate that both have to exceed.
BURNS: dict[str, tuple[tuple[str, str, float], ...]] = {
    "page": (("1h", "5m", 14.4), ("6h", "30m", 6.0)),
    "ticket": (("1d", "2h", 3.0), ("3d", "6h", 1.0)),
}
#: The same windows in seconds: a rate over one, times its seconds, is a number.
SECONDS = {"1h": 3_600, "6h": 21_600, "1d": 86_400, "3d": 259_200}
WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
_HEAD = "# Made from slo.yaml by `python -m deploy.watch.slo`; do not edit it.\n"
Rule = dict[str, Any]


@dataclass(frozen=True)
class Slo:
    """A promise, as slo.yaml has it; `least` is a number of failures."""

    name: str
    alert: str
    objective: float
    least: int
    by: list[str]
    errors: str
    total: str
    summary: str
    description: str
    portal: str

    @property
    def record(self) -> str:
        """Name of its recording rules, but for the window."""
        return f"pharmaloop:{self.name.replace('-', '_')}:error_ratio"

    @property
    def failures(self) -> str:
        """The same for the number of failures, by long window."""
        return f"pharmaloop:{self.name.replace('-', '_')}:failures"

    @property
    def budget(self) -> float:
        """The share that may go wrong."""
        return round(1 - self.objective / 100, 9)


def read(path: Path = FOLDER / "slo.yaml") -> list[Slo]:
    """The promises. ValueError for an objective that nothing can miss, or keep, and for one failure that
    would be enough."""
    slos = [Slo(**raw) for raw in yaml.safe_load(path.read_text())["slos"]]
    for slo in slos:
        if not 0 < slo.objective < 100:
            raise ValueError(f"{path.name}: objective of {slo.name}: between 0 and 100, without either")
        if slo.least < 2:
            raise ValueError(f"{path.name}: least of {slo.name}: 2 failures or more, one is no rate")
    return slos


def recording(slos: list[Slo]) -> dict[str, Any]:
    """Share of errors, by window, and their number, by long window. Where nothing happened there is no
    share: that keeps a promise."""
    groups = []
    for slo in slos:
        rules = [
            {
                "record": f"{slo.record}{window}",
                "expr": f"{slo.errors.replace('{window}', window)} / {slo.total.replace('{window}', window)}",
            }
            for window in WINDOWS
        ]
        rules += [
            {
                "record": f"{slo.failures}{window}",
                "expr": f"{seconds} * {slo.errors.replace('{window}', window)}",
            }
            for window, seconds in SECONDS.items()
        ]
        groups.append({"name": f"slo-{slo.name}", "rules": rules})
    return {"groups": groups}


def alerting(slos: list[Slo]) -> dict[str, Any]:
    """Two alerts of one name each: somebody is woken, or there is a ticket."""
    rules = [_alert(slo, severity) for slo in slos for severity in BURNS]
    return {"groups": [{"name": "slo", "rules": rules}]}


def _alert(slo: Slo, severity: str) -> Rule:
    burns = []
    for long, short, rate in BURNS[severity]:
        bound = f"{rate * slo.budget:.6g}"
        burns.append(
            f"({slo.record}{long} > {bound} and {slo.record}{short} > {bound} "
            f"and {slo.failures}{long} >= {slo.least} and {slo.record}{long} offset {short})"
        )
    return {
        "alert": slo.alert,
        "expr": " or ".join(burns),
        "labels": {"severity": severity, "slo": slo.name},
        "annotations": {
            "summary": slo.summary,
            "description": slo.description,
            "runbook_url": f"docs/runbooks/{slo.alert}.md",
            "portal": slo.portal,
        },
    }


def texts(slos: list[Slo]) -> dict[Path, str]:
    """The files, by their place under deploy/prometheus."""
    return {
        Path("recording/slo.rules.yaml"): _HEAD + _text(recording(slos)),
        Path("alerting/slo.rules.yaml"): _HEAD + _text(alerting(slos)),
    }


def _text(rules: dict[str, Any]) -> str:
    return str(yaml.safe_dump(rules, sort_keys=False, width=110, allow_unicode=True))


def main() -> int:
    """Write the files."""
    for place, text in texts(read()).items():
        (FOLDER / place).write_text(text)
        print(FOLDER / place)
    return 0


if __name__ == "__main__":
    sys.exit(main())
