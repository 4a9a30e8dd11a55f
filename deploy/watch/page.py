"""Writes docs/metrics.md from the registry: `python -m deploy.watch.page`."""

import sys

from deploy.local.plan import ROOT
from services.kit.metrics import CATALOGUE, LABELS, PROCESS

PAGE = ROOT / "docs" / "metrics.md"
_HEAD = """\
# Metrics

Made from `services/kit/metrics.py` by `python -m deploy.watch.page`; do not edit it.
[watching.md](watching.md) says how they are scraped, judged and routed.

Each process serves its own on its metrics port. Rules and runbooks name nothing that is not here; a test
holds that.
"""


def text() -> str:
    """The page."""
    lines = [_HEAD, "| metric | kind | labels | meaning |", "|---|---|---|---|"]
    for metric in sorted(CATALOGUE, key=lambda metric: metric.name):
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        lines.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} |")
    lines += ["", "Of the process itself: " + ", ".join(f"`{name}`" for name in PROCESS) + ".", ""]
    lines += [
        "## Labels",
        "",
        "Each is bounded by the installation; none names a patient, a lot, a run or a person.",
        "",
    ]
    lines += ["| label | its values |", "|---|---|"]
    lines += [f"| `{label}` | {bound} |" for label, bound in sorted(LABELS.items())]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write it."""
    PAGE.write_text(text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
