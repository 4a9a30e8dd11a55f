"""Two judges from elsewhere look at every variant: checkov at its policies, kubeconform at its form."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from deploy.charts import conform, policy
from deploy.charts.render import variants

#: They are installed into `.tools` where they are missing.
pytestmark = pytest.mark.timeout(900)
Text = Callable[[str], str]


@pytest.fixture
def rendered(text_of: Text) -> dict[str, str]:
    return {name: text_of(name) for name in variants()}


def test_checkov_finds_what_is_planted_and_nothing_else_that_is_not_waived(rendered: dict[str, str]) -> None:
    sound = rendered["minimal"]
    forbidden = sound.replace("readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false")
    assert forbidden != sound
    found = policy.complaints({**rendered, "planted": forbidden})
    assert found
    assert all(line.startswith("planted: CKV_K8S_22 ") for line in found), found


@pytest.mark.parametrize("version", conform.VERSIONS)
def test_kubeconform_finds_what_is_planted_and_every_other_resource_valid(
    rendered: dict[str, str], version: str
) -> None:
    sound = rendered["minimal"]
    unknown = sound.replace("terminationGracePeriodSeconds:", "terminationGraceSeconds:")
    assert unknown != sound
    found = conform.complaints({**rendered, "planted": unknown}, version)
    assert found
    assert all(line.startswith("planted: ") and "terminationGraceSeconds" in line for line in found), found
