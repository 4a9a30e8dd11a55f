"""Write the dashboards and their page: `python -m deploy.grafana`.

With --portal, --docs and --to, dashboards for an installation whose portal and
docs stand there are written into another folder instead.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from deploy.grafana import page
from deploy.grafana.boards import BOARDS
from deploy.grafana.build import texts
from deploy.grafana.links import DOCS, PORTAL
from deploy.local.plan import ROOT

FOLDER = ROOT / "deploy" / "grafana" / "dashboards"


def write(folder: Path, portal: str = PORTAL, docs: str = DOCS) -> None:
    """Write a file for each dashboard; files of dashboards that are no more are removed."""
    made = texts(BOARDS, portal.rstrip("/"), docs.rstrip("/"))
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.glob("pharmaloop-*.json"):
        if file.stem not in made:
            file.unlink()
    for uid, text in made.items():
        (folder / f"{uid}.json").write_text(text)


def main() -> int:
    """Write what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m deploy.grafana", description="Write the dashboards.")
    parser.add_argument("--portal", default=PORTAL, help="where the portal stands")
    parser.add_argument("--docs", default=DOCS, help="what stands before docs/runbooks")
    parser.add_argument("--to", type=Path, default=FOLDER, help="the folder to write into")
    told = parser.parse_args()
    if told.to == FOLDER and (told.portal, told.docs) != (PORTAL, DOCS):
        parser.error("--portal and --docs are of one installation: say with --to where its files go")
    write(told.to, told.portal, told.docs)
    if told.to == FOLDER:
        page.PAGE.write_text(page.text())
    print(f"{len(BOARDS)} dashboards in {told.to}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
