"""gRPC with certificates on real ports: who is let in, who is not and why, and renewal while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.kit.errors import Invalid
from services.kit.metrics import Metrics
from services.kit.rpc.client import channel, sync_channel
from services.kit.rpc.server import RpcServer
from services.kit.settings import ServiceSettings, TlsSettings, read_settings
from services.kit.startup.environment import check_environment
from services.kit.tls import handshake
from services.kit.tls import identity as identities
from services.kit.tls.identity import Identity
from tests.unit.kit.tls_authority import Authority, Papers

SERVING = health_pb2.HealthCheckResponse.SERVING


def settings(papers: Papers) -> TlsSettings:
    return TlsSettings(cert=str(papers.cert), key=str(papers.key), ca=str(papers.ca))


class Server:
    """A service's server with the certificate of a folder."""

    def __init__(self, papers: Papers | None, **more: int) -> None:
        tls = settings(papers) if papers else None
        self._rpc = RpcServer(ServiceSettings(**more), Metrics("test"), tls=tls)  # type: ignore[arg-type]

    async def __aenter__(self) -> str:
        port = await self._rpc.start([])
        await self._rpc.set_serving(True)
        return f"127.0.0.1:{port}"

    async def __aexit__(self, *_: object) -> None:
        await self._rpc.stop()


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every question looks at the files, not only one a second."""
    monkeypatch.setattr(identities, "_LOOK_SECONDS", 0.0)


@pytest.fixture
def server_papers(authority: Authority, tmp_path: Path) -> Papers:
    return authority.write(tmp_path / "server", "production")


def be(monkeypatch: pytest.MonkeyPatch, papers: Papers | None) -> None:
    """This process has these certificates from now on."""
    for name in ("CERT", "KEY", "CA"):
        monkeypatch.delenv(f"PHARMALOOP_TLS_{name}", raising=False)
    for name, path in (papers.environment() if papers else {}).items():
        monkeypatch.setenv(name, path)


async def ask(connected: aio.Channel) -> int:
    stub = health_pb2_grpc.HealthStub(connected)
    return int((await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)).status)


async def asked(address: str) -> int:
    async with channel(address) as connected:
        return await ask(connected)


async def refused(address: str) -> str:
    """What a caller is told, in gRPC's words and in ours."""
    with pytest.raises(aio.AioRpcError) as error:
        await asked(address)
    assert error.value.code() == grpc.StatusCode.UNAVAILABLE
    assert handshake.is_sign(error.value.details())
    return await asyncio.to_thread(handshake.of_grpc, address)


async def test_both_ends_prove_who_they_are(
    monkeypatch: pytest.MonkeyPatch, authority: Authority, server_papers: Papers, tmp_path: Path
) -> None:
    async with Server(server_papers) as address:
        be(monkeypatch, authority.write(tmp_path / "client", "portal"))
        assert await asked(address) == SERVING
        assert handshake.of_grpc(address) == ""
        with sync_channel(address) as plain:
            stub = health_pb2_grpc.HealthStub(plain)
            answer = await asyncio.to_thread(stub.Check, health_pb2.HealthCheckRequest(), timeout=5)
            assert answer.status == SERVING


async def test_without_a_certificate_nobody_is_let_in(
    monkeypatch: pytest.MonkeyPatch, server_papers: Papers
) -> None:
    async with Server(server_papers) as address:
        be(monkeypatch, None)
        said = await refused(address)
    assert said.startswith(f"{address} speaks TLS and this process does not: set PHARMALOOP_TLS_CERT")
    assert "docs/tls.md" in said


async def test_a_caller_whose_certificate_expired_is_told_that_it_is_theirs(
    monkeypatch: pytest.MonkeyPatch, authority: Authority, server_papers: Papers, tmp_path: Path
) -> None:
    async with Server(server_papers) as address:
        mine = authority.write(tmp_path / "client", "portal", days=-3)
        be(monkeypatch, mine)
        said = await refused(address)
    assert said.startswith(
        f"the certificate of this process (portal; PHARMALOOP_TLS_CERT={mine.cert}) expired"
    )
    assert said.endswith("UTC: renew it")


async def test_a_caller_of_another_authority_is_told_who_signed_theirs(
    monkeypatch: pytest.MonkeyPatch, authority: Authority, server_papers: Papers, tmp_path: Path
) -> None:
    mine = Authority("somebody else").write(tmp_path / "client", "portal")
    mine.ca.write_bytes(authority.pem)
    async with Server(server_papers) as address:
        be(monkeypatch, mine)
        said = await refused(address)
    assert said.startswith(f"{address} refuses the certificate of this process")
    assert "portal, issued by somebody else" in said
    assert "show one of an authority that it takes" in said


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ({"days": -3.0}, ["production, issued by authority of the plant) expired on", "renew it there"]),
        ({"begins": 2.0}, ["is valid only from", "is this machine's clock right?"]),
        ({"names": ("production.pharma.svc",)}, ["is for production.pharma.svc, not for 127.0.0.1"]),
    ],
)
async def test_a_caller_is_told_what_is_wrong_with_the_server_s(
    monkeypatch: pytest.MonkeyPatch,
    authority: Authority,
    tmp_path: Path,
    what: dict[str, float],
    words: list[str],
) -> None:
    be(monkeypatch, authority.write(tmp_path / "client", "portal"))
    async with Server(authority.write(tmp_path / "server", "production", **what)) as address:
        said = await refused(address)
    assert said.startswith(f"the certificate of {address} (production")
    assert all(one in said for one in words), said


async def test_a_server_of_another_authority_is_not_believed(
    monkeypatch: pytest.MonkeyPatch, server_papers: Papers, tmp_path: Path
) -> None:
    mine = Authority("somebody else").write(tmp_path / "client", "portal")
    be(monkeypatch, mine)
    async with Server(server_papers) as address:
        said = await refused(address)
    assert "(production, issued by authority of the plant) is not signed by an authority" in said
    assert f"PHARMALOOP_TLS_CA={mine.ca}" in said


async def test_a_plain_server_is_named_to_a_secured_caller(
    monkeypatch: pytest.MonkeyPatch, authority: Authority, tmp_path: Path
) -> None:
    be(monkeypatch, authority.write(tmp_path / "client", "portal"))
    async with Server(None) as address:
        said = await refused(address)
    assert (
        said == f"{address} does not speak TLS, and this process does: secure both, or neither (docs/tls.md)"
    )


async def test_a_renewed_certificate_is_shown_without_a_new_start(
    monkeypatch: pytest.MonkeyPatch, authority: Authority, tmp_path: Path
) -> None:
    be(monkeypatch, authority.write(tmp_path / "client", "portal"))
    async with Server(authority.write(tmp_path / "server", "production", days=-1)) as address:
        assert "expired" in await refused(address)
        authority.write(tmp_path / "server", "production")
        assert await asked(address) == SERVING
        other = Authority("the next authority")
        other.write(tmp_path / "server", "production")
        assert "issued by the next authority) is not signed by an authority" in await refused(address)


@pytest.fixture
async def standing(
    monkeypatch: pytest.MonkeyPatch, authority: Authority, tmp_path: Path
) -> AsyncIterator[aio.Channel]:
    """A channel that was made with a certificate that the server does not take any more."""
    be(monkeypatch, authority.write(tmp_path / "client", "portal", days=-1))
    async with (
        Server(authority.write(tmp_path / "server", "production")) as address,
        channel(address) as made,
    ):
        yield made


async def test_a_channel_that_stands_goes_on_with_the_renewed_certificate(
    standing: aio.Channel, authority: Authority, tmp_path: Path
) -> None:
    stub = health_pb2_grpc.HealthStub(standing)
    with pytest.raises(aio.AioRpcError):
        await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
    authority.write(tmp_path / "client", "portal")
    answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
    assert answer.status == SERVING


async def test_a_stream_outlives_a_renewal(
    monkeypatch: pytest.MonkeyPatch, authority: Authority, tmp_path: Path
) -> None:
    be(monkeypatch, authority.write(tmp_path / "client", "portal"))
    server = Server(authority.write(tmp_path / "server", "production"))
    async with server as address, channel(address) as connected:
        stub = health_pb2_grpc.HealthStub(connected)
        stream = stub.Watch(health_pb2.HealthCheckRequest(), timeout=10)
        assert (await stream.read()).status == SERVING
        authority.write(tmp_path / "client", "portal")
        authority.write(tmp_path / "server", "production")
        assert await ask(connected) == SERVING
        await server._rpc.set_serving(False)
        assert (await stream.read()).status != SERVING


async def test_probes_ask_a_port_of_their_own_that_answers_health_alone(
    monkeypatch: pytest.MonkeyPatch, server_papers: Papers, unused_port: int
) -> None:
    be(monkeypatch, None)
    address = f"127.0.0.1:{unused_port}"
    async with Server(server_papers, health_port=unused_port), channel(address) as probe:
        assert await ask(probe) == SERVING
        other: Any = probe.unary_unary("/pharmaloop.common.v1.StatusService/GetStatus")
        with pytest.raises(aio.AioRpcError) as error:
            await other(b"", timeout=5)
    assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# -- files ------------------------------------------------------------------------


def test_half_a_renewal_leaves_the_last_whole_one_in_use(authority: Authority, tmp_path: Path) -> None:
    papers = authority.write(tmp_path, "production")
    who = Identity(settings(papers))
    first = who.files()
    chain, key = authority.issue("production")
    papers.cert.write_bytes(chain)
    assert who.files() is first
    papers.key.write_bytes(key)
    assert who.files().chain == chain
    papers.ca.unlink()
    assert who.files().chain == chain


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("cert", None, "PHARMALOOP_TLS_CERT={}: No such file or directory; name a readable PEM file"),
        ("cert", b"odd", "PHARMALOOP_TLS_CERT={}: it is no PEM of the kind"),
        ("key", b"odd", "PHARMALOOP_TLS_KEY={}: it is no PEM of the kind"),
        ("ca", b"odd", "PHARMALOOP_TLS_CA={}: it is no PEM of the kind"),
        ("key", "another", "PHARMALOOP_TLS_KEY={}: this is not the key of PHARMALOOP_TLS_CERT"),
    ],
)
def test_files_that_cannot_be_used_are_named(
    authority: Authority, tmp_path: Path, file: str, content: bytes | str | None, words: str
) -> None:
    papers = authority.write(tmp_path, "production")
    path: Path = getattr(papers, file)
    if content is None:
        path.unlink()
    else:
        path.write_bytes(authority.issue("other")[1] if isinstance(content, str) else content)
    with pytest.raises(Invalid) as error:
        Identity(settings(papers))
    assert words.format(path) in error.value.description
    assert error.value.field == words.partition("=")[0]


@pytest.mark.parametrize("missing", ["CERT", "KEY", "CA"])
def test_one_file_without_the_others_is_refused(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    for name in {"CERT", "KEY", "CA"} - {missing}:
        monkeypatch.setenv(f"PHARMALOOP_TLS_{name}", "/somewhere")
    with pytest.raises(Invalid) as error:
        read_settings(TlsSettings)
    assert error.value.field == f"PHARMALOOP_TLS_{missing}"
    assert "give it with the other two" in error.value.description


def test_services_know_these_variables() -> None:
    check_environment({"PHARMALOOP_TLS_CERT": "x"}, "rnd", ServiceSettings, ("rnd",))
    with pytest.raises(Invalid, match="did you mean PHARMALOOP_TLS_CERT"):
        check_environment({"PHARMALOOP_TLS_CRET": "x"}, "rnd", ServiceSettings, ("rnd",))
