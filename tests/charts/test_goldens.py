"""What is rendered is what is held; what is generated is as the project is now."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.charts import generate, golden
from deploy.charts.render import BACKBONE, EXAMPLES, LIBRARY, UMBRELLA, lint, notes, variants


@pytest.mark.parametrize("name", golden.names())
def test_a_variant_renders_as_it_is_held(name: str, text_of: Callable[[str], str]) -> None:
    held, now = golden.path(name).read_text(), golden.normal(text_of(name))
    shown = "\n".join(
        list(difflib.unified_diff(held.splitlines(), now.splitlines(), "held", "now", n=2))[:60]
    )
    assert now == held, f"{name} renders otherwise; if that is meant, run 'make charts-docs':\n{shown}"


def test_there_is_no_golden_of_a_variant_that_is_gone() -> None:
    assert {path.stem for path in golden.FOLDER.iterdir()} == set(golden.names())


def test_generated_files_are_as_the_project_is() -> None:
    assert [str(path) for path in generate.differing()] == [], "run 'make charts-docs'"


@pytest.mark.parametrize("name", variants())
def test_lint_finds_nothing(name: str) -> None:
    assert "0 chart(s) failed" in lint(UMBRELLA, [EXAMPLES / f"{name}.yaml"])


@pytest.mark.parametrize("chart", [BACKBONE, LIBRARY])
def test_lint_finds_nothing_in_the_others(chart: object) -> None:
    assert "0 chart(s) failed" in lint(BACKBONE if chart == BACKBONE else LIBRARY)


def test_after_an_installation_a_user_knows_which_secrets_to_bring() -> None:
    said = notes(UMBRELLA, [EXAMPLES / "three-sites.yaml"])
    assert "exposure: hospital-a: 32 random bytes, the key exposure/hospital-a; hospital-b: 32 random" in said
    assert "mongodb-hospital-c: connection: connection string of MongoDB" in said
    assert "helm test pharmaloop --namespace pharma" in said
    assert "outlive this release" in said


@pytest.mark.parametrize("collected", [True, False])
def test_rules_without_a_pod_monitor_say_which_labels_the_collector_must_give(
    tmp_path: Path, collected: bool
) -> None:
    watching = {
        "monitoring": {"rules": {"enabled": True}, "podMonitor": {"enabled": collected}},
        "networkPolicy": {"monitoring": [{"podSelector": {}}]},
    }
    values = tmp_path / "watching.yaml"
    values.write_text(json.dumps(watching))
    said = notes(UMBRELLA, [EXAMPLES / "minimal.yaml", values])
    assert ("without them ServiceGone pages" in said) is not collected
    assert "helm test pharmaloop" in said
