"""Certificates and kubeconfig files of a cluster."""

import base64
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509

from deploy.cluster import identity


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("identity")
    identity.write(folder, "https://127.0.0.1:1234")
    return folder


def user(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(file.read_text())["users"][0]["user"]
    return found


@pytest.mark.parametrize("name", identity.USERS)
def test_each_part_has_a_certificate_in_its_own_name(folder: Path, name: str) -> None:
    ca = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
    pem = base64.b64decode(user(folder / f"{name}.conf")["client-certificate-data"])
    certificate = x509.load_pem_x509_certificate(pem)
    certificate.verify_directly_issued_by(ca)
    named = {one.rfc4514_attribute_name: one.value for one in certificate.subject}
    common_name, group = identity.USERS[name]
    assert named == {"CN": common_name} | ({"O": group} if group else {})


def test_who_brings_a_token_has_no_certificate_that_would_win_over_it(folder: Path) -> None:
    assert user(folder / "anybody.conf") == {}


def test_nobody_else_may_read_them(folder: Path) -> None:
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}
