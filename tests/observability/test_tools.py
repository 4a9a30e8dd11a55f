"""Where the programs come from, and what is said where they are not to be had."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.watch import tools


@pytest.mark.parametrize("program", ["promtool", "amtool"])
def test_a_checker_is_there_and_says_its_version(program: str) -> None:
    assert tools.version(program)[:1].isdigit()


def test_a_program_that_somebody_names_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHARMALOOP_PROMTOOL", "/opt/promtool")
    assert tools.need("promtool") == "/opt/promtool"


def test_a_machine_without_debian_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tools, "TOOLS", tmp_path)
    monkeypatch.setattr("deploy.watch.tools.shutil.which", lambda name: None)
    with pytest.raises(tools.ToolsError, match=r"prometheus 2.42 or newer.*PHARMALOOP_PROMTOOL"):
        tools.need("promtool")


def test_who_may_not_install_alertmanager_is_told_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fetched = tmp_path / "usr" / "bin" / "prometheus-alertmanager"
    fetched.parent.mkdir(parents=True)
    fetched.touch()
    monkeypatch.setattr(tools, "TOOLS", tmp_path)
    monkeypatch.setattr(tools, "_TEMPLATE", tmp_path / "default.tmpl")
    monkeypatch.setattr("deploy.watch.tools.os.geteuid", lambda: 1000)
    with pytest.raises(tools.ToolsError, match=r"apt-get install .* prometheus-alertmanager as root"):
        tools.need("alertmanager")
