"""The portal before services that ask for certificates: pages say who is away, the log says why."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from grpc import aio

from pharmaloop.loops.v1 import service_pb2_grpc as loops_grpc
from services.kit.tls import identity
from services.portal import main
from services.portal.backend import Backend, Missing
from services.portal.settings import PortalSettings
from tests.unit.kit.tls_authority import Authority, Papers
from tests.unit.portal.test_web import Loops


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
async def address(authority: Authority) -> AsyncIterator[str]:
    server, (chain, key) = aio.server(), authority.issue("loops")
    loops_grpc.add_LoopsServiceServicer_to_server(Loops(), server)  # type: ignore[abstract]
    credentials = grpc.ssl_server_credentials([(key, chain)], authority.pem, require_client_auth=True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(0)


def be(monkeypatch: pytest.MonkeyPatch, papers: Papers) -> None:
    for name, value in papers.environment().items():
        monkeypatch.setenv(name, value)


async def test_the_portal_goes_on_with_a_renewed_certificate(
    monkeypatch: pytest.MonkeyPatch,
    authority: Authority,
    address: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(identity, "_LOOK_SECONDS", 0.0)
    be(monkeypatch, authority.write(tmp_path, "portal", days=-1))
    backend = Backend({"loops": address}, PortalSettings())
    for _ in range(2):
        with pytest.raises(Missing):
            await backend.ask("loops", "ListRuns", fresh=True)
    await asyncio.gather(*backend._looking)
    told = [line for line in capsys.readouterr().out.splitlines() if "no secure connection" in line]
    assert len(told) == 1, "not with every page"
    assert "the certificate of this process (portal; PHARMALOOP_TLS_CERT=" in told[0]
    authority.write(tmp_path, "portal")
    assert list((await backend.ask("loops", "ListRuns", fresh=True)).runs) == []
    await backend.close()


def test_a_portal_whose_files_cannot_be_used_does_not_start(
    monkeypatch: pytest.MonkeyPatch, authority: Authority, tmp_path: Path
) -> None:
    papers = authority.write(tmp_path, "portal")
    papers.key.unlink()
    be(monkeypatch, papers)
    monkeypatch.setenv("PHARMALOOP_ENDPOINTS", '{"loops": "127.0.0.1:1"}')
    monkeypatch.setattr("sys.argv", ["portal"])
    with pytest.raises(SystemExit, match="portal: PHARMALOOP_TLS_KEY="):
        main.main()
