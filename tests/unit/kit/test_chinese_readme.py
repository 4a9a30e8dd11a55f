"""The introduction in Chinese: what it names exists, and the README leads there at once."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs/zh/README.md"


def test_the_readme_leads_to_it_in_its_first_lines() -> None:
    first = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:4]
    assert any("(docs/zh/README.md)" in line for line in first)


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#([^)]*))?\)", PAGE.read_text(encoding="utf-8"))
    assert len(links) > 5
    for to, part in links:
        target = (PAGE.parent / to).resolve()
        assert target.exists(), to
        headings = [line.lstrip("# ").lower() for line in target.read_text().splitlines() if line[:1] == "#"]
        assert not part or part in headings, f"{to} has no part {part}"


def test_its_commands_are_those_of_the_readme_and_the_makefile() -> None:
    text, readme = PAGE.read_text(encoding="utf-8"), (ROOT / "README.md").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE))
    assert {"run", "test"} <= named <= targets
    for command in re.findall(r"^pharmaloop [a-z]+(?: [a-z]+)?", text, re.MULTILINE):
        assert f"\n{command} " in readme


def test_its_facts_are_those_of_the_readme() -> None:
    text, readme = PAGE.read_text(encoding="utf-8"), (ROOT / "README.md").read_text(encoding="utf-8")
    for number in ("71", "254", "3.11", "17"):
        assert number in text
        assert number in readme
