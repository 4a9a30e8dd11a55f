"""The command against a platform that asks for certificates: in, or told whose certificate keeps it out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from pharmaloop.common.v1 import service_pb2 as common
from tests.unit.cli.support import Bench, Fake
from tests.unit.kit.tls_authority import Authority


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def secured(authority: Authority, tmp_path: Path) -> Iterator[Bench]:
    """One service behind certificates."""
    fake = Fake()
    fake.answers["GetStatus"] = lambda request: common.GetStatusResponse(service="loops", health="serving")
    chain, key = authority.issue("loops")
    server = grpc.server(ThreadPoolExecutor(4), handlers=[fake])
    credentials = grpc.ssl_server_credentials([(key, chain)], authority.pem, require_client_auth=True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    yield Bench(fake, f"127.0.0.1:{port}", tmp_path / "state", ("loops",))
    server.stop(None).wait()


def test_with_a_certificate_the_command_is_let_in(
    secured: Bench, authority: Authority, tmp_path: Path
) -> None:
    secured.environment = authority.write(tmp_path, "ada").environment()
    result = secured.run("status", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["services"]["loops"]["health"] == "serving"


def test_without_one_it_is_told_which_variables_to_set(secured: Bench) -> None:
    result = secured.run("run", "list")
    assert result.exit_code == 3
    assert f"{secured.address} speaks TLS and this process does not: set PHARMALOOP_TLS_CERT" in result.stderr
    why = json.loads(secured.run("status", "--json").stdout)["services"]["loops"]["not_ready"]
    assert "speaks TLS and this process does not" in why[0]


def test_with_an_expired_one_it_is_told_so(secured: Bench, authority: Authority, tmp_path: Path) -> None:
    papers = authority.write(tmp_path, "ada", days=-1)
    secured.environment = papers.environment()
    result = secured.run("run", "list")
    assert result.exit_code == 3
    told = f"the certificate of this process (ada; PHARMALOOP_TLS_CERT={papers.cert}) expired on "
    assert told in result.stderr


def test_files_that_cannot_be_used_are_named(secured: Bench, authority: Authority, tmp_path: Path) -> None:
    papers = authority.write(tmp_path, "ada")
    secured.environment = {**papers.environment(), "PHARMALOOP_TLS_KEY": str(tmp_path / "gone")}
    result = secured.run("run", "list")
    assert result.exit_code == 2
    assert f"PHARMALOOP_TLS_KEY={tmp_path / 'gone'}: No such file or directory" in result.stderr
    assert "docs/tls.md" in result.stderr
    secured.environment = {"PHARMALOOP_TLS_CA": str(papers.ca)}
    assert "PHARMALOOP_TLS_CERT: give it with the other two" in secured.run("run", "list").stderr
