"""Certificates that expire: who is told when, and who begins anew with renewed ones."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from services.kit.clock import wall_clock
from services.kit.metrics import CERTIFICATE_EXPIRES, Metrics
from services.kit.settings import KafkaSettings, MongoSettings, TlsSettings
from services.kit.tls.certificates import read
from services.kit.tls.expiry import Expiry, Paper, Renewed, papers
from tests.unit.kit.tls_authority import Authority, Papers

DAY = 86_400


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def grpc(files: Papers) -> Paper:
    return Paper("grpc", "PHARMALOOP_TLS_CERT", str(files.cert), reread=True)


def kafka(files: Papers) -> Paper:
    return Paper("kafka", "KAFKA_SSL_CERTIFICATE_LOCATION", str(files.cert))


def watch(*watched: Paper, instance: str = "rnd-0") -> Expiry:
    return Expiry(list(watched), instance, Metrics("rnd"), {})


def days_told(expiry: Expiry, part: str) -> float:
    labels = {"service": "rnd", "part": part}
    return (expiry.metrics.registry.get_sample_value(CERTIFICATE_EXPIRES.name, labels) or 0) / DAY


def test_a_certificate_that_holds_is_only_counted(authority: Authority, tmp_path: Path) -> None:
    expiry = watch(grpc(authority.write(tmp_path, "rnd", days=60)))
    expiry.look()
    assert expiry.waits == {}
    assert days_told(expiry, "grpc") == pytest.approx(60, abs=0.01)


def test_an_expired_certificate_keeps_a_process_from_being_ready_until_it_is_renewed(
    authority: Authority, tmp_path: Path
) -> None:
    files = authority.write(tmp_path, "rnd", days=-3)
    expiry = watch(grpc(files))
    expiry.look()
    (why,) = expiry.waits.values()
    assert why.startswith(f"rnd (PHARMALOOP_TLS_CERT={files.cert}) expired on ")
    assert why.endswith(": renew it")
    assert days_told(expiry, "grpc") == pytest.approx(-3, abs=0.01)
    authority.write(tmp_path, "rnd", days=60)
    expiry.look()
    assert expiry.waits == {}


def test_a_warning_comes_once_a_day_from_two_weeks_before(
    authority: Authority, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expiry, now = watch(grpc(authority.write(tmp_path, "rnd", days=20))), wall_clock.machine()
    for hours in range(0, 8 * 24, 6):  # from 20 days before to 12
        expiry.look(now + timedelta(hours=hours))
    told = [line for line in capsys.readouterr().out.splitlines() if "expires soon" in line]
    assert len(told) == 2
    assert "rnd expires in 14 days: renew it" in told[0]


def test_a_process_begins_anew_with_what_its_clients_read_only_once(
    authority: Authority, tmp_path: Path
) -> None:
    expiry, now = watch(kafka(authority.write(tmp_path, "kafka-rnd", days=30))), wall_clock.machine()
    expiry.look(now)
    authority.write(tmp_path, "kafka-rnd", days=90)
    expiry.look(now)
    assert days_told(expiry, "kafka") == pytest.approx(30, abs=0.01), "the old one is in use"
    with pytest.raises(Renewed, match="kafka-rnd was renewed"):
        expiry.look(now + timedelta(hours=6))


def test_not_all_processes_begin_anew_at_once(authority: Authority, tmp_path: Path) -> None:
    paper, now = kafka(authority.write(tmp_path, "kafka", days=30)), wall_clock.machine()
    all_of_them = [watch(paper, instance=f"rnd-{number}") for number in range(12)]
    for one in all_of_them:
        one.look(now)
    authority.write(tmp_path, "kafka", days=90)
    left = []
    for hour in range(7):
        ended = 0
        for one in all_of_them:
            try:
                one.look(now + timedelta(hours=hour))
            except Renewed:
                ended += 1
        left.append(ended)
    assert left[0] < 4
    assert left[-1] == 12
    assert len(set(left)) > 3


def test_what_nearly_expired_is_replaced_in_half_of_the_time_that_is_left(
    authority: Authority, tmp_path: Path
) -> None:
    paper, now = kafka(authority.write(tmp_path, "kafka", days=1 / 24)), wall_clock.machine()
    expiry = watch(paper)
    expiry.look(now)
    authority.write(tmp_path, "kafka", days=90)
    expiry.look(now)
    with pytest.raises(Renewed):
        expiry.look(now + timedelta(minutes=31))


def test_a_file_that_is_no_better_is_no_reason_to_begin_anew(authority: Authority, tmp_path: Path) -> None:
    expiry, now = watch(kafka(authority.write(tmp_path, "kafka", days=30))), wall_clock.machine()
    expiry.look(now)
    authority.write(tmp_path, "kafka", days=-1)
    expiry.look(now + timedelta(days=20))
    (tmp_path / "tls.crt").write_bytes(b"odd")
    expiry.look(now + timedelta(days=20))
    (why,) = expiry.waits.values()
    assert "it is no PEM of the kind" in why


def test_an_authority_s_file_holds_as_long_as_its_last(tmp_path: Path) -> None:
    old, new = Authority("old", days=3), Authority("new", days=300)
    (tmp_path / "ca.crt").write_bytes(old.pem + new.pem)
    paper = Paper("kafka authority", "KAFKA_SSL_CA_LOCATION", str(tmp_path / "ca.crt"), authority=True)
    assert paper.read().owner == "new"
    (tmp_path / "chain.crt").write_bytes(old.pem + new.pem)
    assert kafka(Papers(tmp_path / "chain.crt", Path(), Path())).read().owner == "old"


def test_every_certificate_of_the_settings_is_watched(authority: Authority, tmp_path: Path) -> None:
    files = authority.write(tmp_path, "rnd")
    cert, key, ca = str(files.cert), str(files.key), str(files.ca)
    found = papers(
        TlsSettings(cert=cert, key=key, ca=ca),
        KafkaSettings(ssl_ca_location=ca, ssl_certificate_location=cert, ssl_key_location=key),
        MongoSettings(tls_ca_file=ca, tls_certificate_key_file=str(files.both)),
    )
    owners = {paper.part: paper.read().owner for paper in found}
    of_authority = "authority of the plant"
    assert owners == {
        "grpc": "rnd",
        "grpc authority": of_authority,
        "kafka": "rnd",
        "kafka authority": of_authority,
        "database": "rnd",
        "database authority": of_authority,
    }
    assert list(papers(TlsSettings(), KafkaSettings(), MongoSettings())) == []


def _listed(environment: dict[str, str]) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "services.kit.tls.expiry"],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_the_certificates_of_an_environment_can_be_listed(authority: Authority, tmp_path: Path) -> None:
    code, said = _listed(authority.write(tmp_path, "rnd", days=30.4).environment())
    assert code == 0
    assert "grpc: rnd, issued by authority of the plant, expires in 30 days" in said
    code, said = _listed(authority.write(tmp_path, "rnd", days=-1).environment())
    assert code == 1
    assert "expired on" in said
    assert _listed({})[0] == 0


def test_a_chain_is_read_in_its_order(authority: Authority, tmp_path: Path) -> None:
    files = authority.write(tmp_path, "rnd")
    files.cert.write_bytes(files.cert.read_bytes() + authority.pem)
    assert [one.owner for one in read(files.cert, "X")] == ["rnd", "authority of the plant"]
