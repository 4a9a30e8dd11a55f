"""Compose with certificates: who has one, for which names, and that strangers are not let in."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.local.plan import PORTAL, ROOT, SERVICES, WORLD
from services.kit.metrics import Metrics
from services.kit.rpc.client import channel
from services.kit.rpc.server import RpcServer
from services.kit.settings import ServiceSettings, TlsSettings, read_settings
from services.kit.tls import identity as identities
from tests.unit.images.composed import FILES, FOLDER, MADE, layered, load
from tests.unit.images.test_compose import container

INSIDE = "/etc/pharmaloop/grpc"
TOLD = {
    "PHARMALOOP_TLS_CERT": f"{INSIDE}/tls.crt",
    "PHARMALOOP_TLS_KEY": f"{INSIDE}/tls.key",
    "PHARMALOOP_TLS_CA": f"{INSIDE}/ca.crt",
}
CALLED = {container(process) for process in SERVICES}
CALLERS = {PORTAL, WORLD, "command"}
SCRIPT = FOLDER / "certificates.sh"


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PHARMALOOP_CERTIFICATES": str(folder)}
    return subprocess.run(
        ["sh", str(SCRIPT), *arguments], env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "certificates"
    result = run(folder, "30")
    assert result.returncode == 0, result.stderr
    return folder


def certificate(made: Path, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((made / name / "tls.crt").read_bytes())


def settings(made: Path, name: str) -> TlsSettings:
    folder = made / name
    return TlsSettings(cert=str(folder / "tls.crt"), key=str(folder / "tls.key"), ca=str(folder / "ca.crt"))


def test_whoever_serves_or_calls_has_a_certificate_of_its_own_and_nobody_else() -> None:
    told = {name: service for name, service in layered(*FILES).items() if "build" in service}
    assert set(told) == CALLED | {PORTAL, WORLD, "migrate"}
    for name, service in told.items():
        environment = service["environment"]
        mine = {variable: environment[variable] for variable in TOLD if variable in environment}
        assert mine == ({} if name == "migrate" else TOLD), name
        mounts = [one for one in service.get("volumes", []) if isinstance(one, dict)]
        wanted = {
            "type": "bind",
            "source": f"{MADE}{name}",
            "target": INSIDE,
            "read_only": True,
            "bind": {"create_host_path": False},
        }
        assert mounts == ([] if name == "migrate" else [wanted]), name


def test_a_process_understands_what_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in layered("compose.yaml", "compose.tls.yaml")["rnd"]["environment"].items():
        monkeypatch.setenv(name, value)
    assert read_settings(TlsSettings).on


def test_without_the_layer_nothing_of_it_is_there() -> None:
    for name, service in layered("compose.yaml", "compose.observability.yaml", "compose.dev.yaml").items():
        assert not set(TOLD) & set(service.get("environment", {})), name


def test_a_certificate_is_for_the_names_under_which_its_process_is_called(made: Path) -> None:
    assert {folder.name for folder in made.iterdir()} == {*CALLED, *CALLERS, "authority"}
    told = json.loads(load("compose.yaml")["services"]["portal"]["environment"]["PHARMALOOP_ENDPOINTS"])
    assert {address.partition(":")[0] for address in told.values()} == CALLED
    for name in CALLED:
        extension = certificate(made, name).extensions.get_extension_for_oid(
            ExtensionOID.SUBJECT_ALTERNATIVE_NAME
        )
        names: Any = extension.value
        # The last two: whoever calls from this machine, with compose.dev.yaml.
        assert names.get_values_for_type(x509.DNSName) == [name, "localhost"]
        assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]


def test_who_only_calls_cannot_serve(made: Path) -> None:
    for name in CALLED | CALLERS:
        extension = certificate(made, name).extensions.get_extension_for_oid(ExtensionOID.EXTENDED_KEY_USAGE)
        usages: Any = extension.value
        assert (ExtendedKeyUsageOID.SERVER_AUTH in usages) == (name in CALLED), name
        assert ExtendedKeyUsageOID.CLIENT_AUTH in usages, name


def test_keys_are_closed_to_others_and_never_in_the_repository(made: Path) -> None:
    # A container reads its own folder as another user; the way to it is the owner's alone.
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert stat.S_IMODE((made / "authority" / "ca.key").stat().st_mode) == 0o600
    ignored = subprocess.run(
        ["git", "check-ignore", "-q", "deploy/compose/certificates/rnd/tls.key"], cwd=ROOT, check=False
    )
    assert ignored.returncode == 0


async def health(tls: TlsSettings | None, port: int, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What a server says to one who comes with these certificates, or with none."""
    with monkeypatch.context() as patched:
        for name, value in (tls.model_dump() if tls else {}).items():
            patched.setenv(f"PHARMALOOP_TLS_{name.upper()}", value)
        identities.identity.cache_clear()
        async with channel(f"127.0.0.1:{port}") as opened:
            stub = health_pb2_grpc.HealthStub(opened)
            return (await stub.Check(health_pb2.HealthCheckRequest(), timeout=30)).status


async def test_the_certificates_open_a_server_and_others_do_not(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = RpcServer(ServiceSettings(), Metrics("test"), tls=settings(made, "rnd"))
    port = await server.start([])
    await server.set_serving(True)
    try:
        for name in ("portal", "command", "agent-hospital-b"):
            found = await health(settings(made, name), port, monkeypatch)
            assert found == health_pb2.HealthCheckResponse.SERVING, name
        other = tmp_path / "other"
        assert run(other).returncode == 0
        for strange in (settings(other, "portal"), None):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await health(strange, port, monkeypatch)
            assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    finally:
        await server.stop()
        identities.identity.cache_clear()


def test_given_again_it_issues_anew_by_the_same_authority(tmp_path: Path) -> None:
    folder = tmp_path / "certificates"
    assert run(folder).returncode == 0
    before, authority = certificate(folder, "rnd"), (folder / "authority" / "ca.crt").read_bytes()
    assert run(folder, "90").returncode == 0
    after = certificate(folder, "rnd")
    assert (folder / "rnd" / "ca.crt").read_bytes() == authority
    assert after.serial_number != before.serial_number
    assert (after.not_valid_after_utc - after.not_valid_before_utc).days == 90
    assert {path.name for path in (folder / "rnd").iterdir()} == {"tls.crt", "tls.key", "ca.crt"}


@pytest.mark.parametrize("days", ["0", "soon", "-1", "1.5"])
def test_a_number_of_days_that_is_none_is_refused_and_nothing_made(days: str, tmp_path: Path) -> None:
    result = run(tmp_path / "certificates", days)
    assert result.returncode == 2
    assert f"DAYS is a number of days from 1, not '{days}'" in result.stderr
    assert not (tmp_path / "certificates").exists()
