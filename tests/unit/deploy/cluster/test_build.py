"""Which Kubernetes is built from what."""

import json
import re

import pytest

from deploy.cluster import build, lock


@pytest.mark.parametrize("version", build.VERSIONS.values(), ids=lambda version: version.name)
def test_the_pinned_modules_are_of_the_version_that_is_named(version: build.Version) -> None:
    pinned = (version.folder / "go.mod").read_text()
    assert f"\tk8s.io/kubernetes {version.kubernetes}\n" in pinned
    tags = set(re.findall(r"=> k8s\.io/\S+ (\S+)", pinned))
    assert tags == {f"v0.{version.kubernetes.removeprefix('v1.')}"}
    assert (f"sigs.k8s.io/kwok {build.KWOK}" in pinned) == version.has_kwok
    assert version.kubernetes.startswith(f"v{version.name}.")


def test_only_the_newest_needs_kwok() -> None:
    assert [version.name for version in build.VERSIONS.values() if version.has_kwok] == [build.NEWEST]


def test_an_unknown_version_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(build.BuildError, match=r"choose 1\.37 or 1\.34"):
        build.version_of("1.29")


def test_replacements_of_staging_modules_are_repeated_with_their_tags() -> None:
    published = {
        "Go": "1.26.0",
        "Require": [
            {"Path": "k8s.io/api", "Version": "v0.0.0"},
            {"Path": "example.org/x", "Version": "v1.2.3"},
        ],
        "Replace": [
            {"Old": {"Path": "k8s.io/api"}, "New": {"Path": "./staging/src/k8s.io/api"}},
            {"Old": {"Path": "example.org/other"}, "New": {"Path": "example.org/fork", "Version": "v1.0.0"}},
        ],
    }
    version = build.Version("1.30", "v1.30.5", has_kwok=False)
    assert lock.go_mod(version, json.loads(json.dumps(published))).splitlines() == [
        f"module {build.MODULE}",
        "",
        "go 1.26.0",
        "",
        "require (",
        "\tk8s.io/kubernetes v1.30.5",
        "\texample.org/x v1.2.3",
        ")",
        "",
        "replace (",
        "\tk8s.io/api => k8s.io/api v0.30.5",
        ")",
    ]


def test_without_go_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(build.BuildError, match=r"install Go 1\.26"):
        build.is_built(build.version_of(build.NEWEST))
