"""Kafka and MongoDB behind TLS: what is wrong with whose certificate. A bare TLS port is enough to see it."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.kit.errors import PharmaLoopError
from services.kit.settings import KafkaSettings, MongoSettings
from services.kit.startup import backbone, database
from services.kit.startup.backbone import BackboneProbe
from services.kit.startup.database import DatabaseProbe
from services.kit.store.mongo import client_options
from services.kit.tls import handshake
from tests.unit.kit.tls_authority import Authority, Papers

Listen = Callable[[Papers], str]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for an engine that may come gives up sooner than in service."""
    monkeypatch.setattr(backbone, "ATTEMPT_SECONDS", 0.3)
    monkeypatch.setattr(handshake, "_SECONDS", 1.0)
    for name in ("serverSelectionTimeoutMS", "socketTimeoutMS"):
        monkeypatch.setitem(database._BOUNDS, name, 500)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def listen() -> Iterator[Listen]:
    """Starts a port that shakes hands, wants a certificate, and says nothing more."""
    open_ports: list[socket.socket] = []

    def start(papers: Papers) -> str:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(papers.cert, papers.key)
        context.load_verify_locations(papers.ca)
        context.verify_mode = ssl.CERT_REQUIRED
        port = socket.create_server(("127.0.0.1", 0))
        open_ports.append(port)
        threading.Thread(target=_accept, args=(port, context), daemon=True).start()
        return f"127.0.0.1:{port.getsockname()[1]}"

    yield start
    for port in open_ports:
        port.close()


def _accept(port: socket.socket, context: ssl.SSLContext) -> None:
    while True:
        try:
            plain, _ = port.accept()
        except OSError:
            return
        threading.Thread(target=_answer, args=(plain, context), daemon=True).start()


def _answer(plain: socket.socket, context: ssl.SSLContext) -> None:
    with contextlib.suppress(OSError), context.wrap_socket(plain, server_side=True) as secure:
        secure.settimeout(5)
        secure.recv(1)


def kafka(address: str, mine: Papers) -> str:
    settings = KafkaSettings(
        bootstrap_servers=address,
        security_protocol="SSL",
        ssl_ca_location=str(mine.ca),
        ssl_certificate_location=str(mine.cert),
        ssl_key_location=str(mine.key),
    )
    with pytest.raises(PharmaLoopError) as error:
        BackboneProbe(settings, "rnd").check()
    return str(error.value)


def mongodb(address: str, mine: Papers) -> str:
    uri = f"mongodb://{address}/?replicaSet=rs0"
    files = {"tls_ca_file": str(mine.ca), "tls_certificate_key_file": str(mine.both)}
    probe = DatabaseProbe(MongoSettings(uri=uri, **files), "rnd")
    with pytest.raises(PharmaLoopError) as error:
        probe.check()
    probe.close()
    return str(error.value)


@pytest.mark.parametrize(
    ("engine", "variable"), [(kafka, "KAFKA_SSL_CA_LOCATION"), (mongodb, "MONGODB_TLS_CA_FILE")]
)
def test_an_engine_s_certificate_that_does_not_hold_is_said_to_be_the_engine_s(
    engine: Callable[[str, Papers], str], variable: str, authority: Authority, listen: Listen, tmp_path: Path
) -> None:
    mine = authority.write(tmp_path / "mine", "rnd")
    address = listen(authority.write(tmp_path / "expired", "engine-1", days=-5))
    said = engine(address, mine)
    assert f"the certificate of {address} (engine-1, issued by authority of the plant) expired on" in said
    other = Authority("somebody else").write(tmp_path / "strange", "engine-2")
    other.ca.write_bytes(authority.pem)
    said = engine(listen(other), mine)
    assert "(engine-2, issued by somebody else) is not signed by an authority that this process takes" in said
    assert f"({variable}={mine.ca})" in said


@pytest.mark.parametrize(
    ("engine", "variable"),
    [(kafka, "KAFKA_SSL_CERTIFICATE_LOCATION"), (mongodb, "MONGODB_TLS_CERTIFICATE_KEY_FILE")],
)
def test_a_certificate_of_ours_that_an_engine_refuses_is_said_to_be_ours(
    engine: Callable[[str, Papers], str], variable: str, authority: Authority, listen: Listen, tmp_path: Path
) -> None:
    address = listen(authority.write(tmp_path / "engine", "engine-1"))
    said = engine(address, authority.write(tmp_path / "mine", "rnd", days=-5))
    assert f"the certificate of this process (rnd; {variable}=" in said
    assert "expired on" in said
    other = Authority("somebody else").write(tmp_path / "other", "rnd")
    other.ca.write_bytes(authority.pem)
    said = engine(address, other)
    assert f"{address} refuses the certificate of this process (" in said
    assert "rnd, issued by somebody else" in said


def test_a_database_that_speaks_tls_is_told_from_one_that_is_away(
    authority: Authority, listen: Listen, tmp_path: Path
) -> None:
    address = listen(authority.write(tmp_path, "engine-1"))
    probe = DatabaseProbe(MongoSettings(uri=f"mongodb://{address}/?replicaSet=rs0"), "rnd")
    with pytest.raises(PharmaLoopError, match=f"{address} speaks TLS.*give MONGODB_TLS_CA_FILE"):
        probe.check()
    probe.close()


@pytest.mark.parametrize("file", ["tls_ca_file", "tls_certificate_key_file"])
def test_a_file_for_mongodb_that_cannot_be_read_is_named(
    authority: Authority, tmp_path: Path, file: str
) -> None:
    papers = authority.write(tmp_path, "rnd")
    files = {"tls_ca_file": str(papers.ca), "tls_certificate_key_file": str(papers.both), file: "/nowhere"}
    with pytest.raises(PharmaLoopError, match=f"MONGODB_{file.upper()}"):
        DatabaseProbe(MongoSettings(**files), "rnd")


def test_an_authority_alone_is_enough_for_mongodb(authority: Authority, tmp_path: Path) -> None:
    """The driver takes an empty name for a file that is not there."""
    papers = authority.write(tmp_path, "rnd")
    options = client_options(MongoSettings(tls_ca_file=str(papers.ca)))
    assert (options["tls"], options["tlsCAFile"]) == (True, str(papers.ca))
    assert "tlsCertificateKeyFile" not in options
    DatabaseProbe(MongoSettings(tls_ca_file=str(papers.ca)), "rnd").close()
    alone = client_options(MongoSettings(tls_certificate_key_file=str(papers.both)))
    assert (alone["tls"], alone["tlsCertificateKeyFile"]) == (True, str(papers.both))
