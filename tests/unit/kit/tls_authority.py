"""Certificates for tests: an authority that issues what is asked for, expired or not yet valid too."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@dataclass(frozen=True)
class Papers:
    """Three files, as a mounted Secret has them, and the one that MongoDB's driver wants."""

    cert: Path
    key: Path
    ca: Path

    @property
    def both(self) -> Path:
        return self.cert.with_name("both.pem")

    def environment(self) -> dict[str, str]:
        return {f"PHARMALOOP_TLS_{name.upper()}": str(getattr(self, name)) for name in ("cert", "key", "ca")}


class Authority:
    """Signs; `days` are those until an issued certificate expires, negative for one that has."""

    def __init__(self, name: str = "authority of the plant", days: float = 4000) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        builder = self._builder(self._name, self._key.public_key(), -4000, days)
        self._made = builder.add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        ).sign(self._key, hashes.SHA256())
        self.pem = self._made.public_bytes(serialization.Encoding.PEM)

    def issue(
        self, name: str, days: float = 60, begins: float = -400, names: tuple[str, ...] = ("localhost",)
    ) -> tuple[bytes, bytes]:
        """Certificate and key, both PEM; it is for 127.0.0.1 and `names`."""
        key = ec.generate_private_key(ec.SECP256R1())
        alternatives: list[x509.GeneralName] = [x509.DNSName(one) for one in names]
        if "localhost" in names:
            alternatives.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
        builder = self._builder(_named(name), key.public_key(), begins, days)
        made = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False).sign(
            self._key, hashes.SHA256()
        )
        return made.public_bytes(serialization.Encoding.PEM), _pem(key)

    def write(self, folder: Path, name: str, **what: float | tuple[str, ...]) -> Papers:
        """Issue into files of a folder; where there are some, they are replaced as Kubernetes does it."""
        chain, key = self.issue(name, **what)  # type: ignore[arg-type]
        folder.mkdir(parents=True, exist_ok=True)
        papers = Papers(folder / "tls.crt", folder / "tls.key", folder / "ca.crt")
        for path, content in (
            (papers.key, key),
            (papers.cert, chain),
            (papers.ca, self.pem),
            (papers.both, key + chain),
        ):
            draft = path.with_suffix(".new")
            draft.write_bytes(content)
            draft.replace(path)
        return papers

    def _builder(
        self, name: x509.Name, key: ec.EllipticCurvePublicKey, begins: float, days: float
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC).replace(microsecond=0)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(days=begins))
            .not_valid_after(now + timedelta(days=days))
        )
