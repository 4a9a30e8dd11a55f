"""What a certificate says of itself: whose it is, who signed it, and how long it holds.

The machine's own clock judges, for TLS asks it too.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from services.kit.clock import wall_clock
from services.kit.errors import Invalid

_DAY_SECONDS = 86_400.0


@dataclass(frozen=True)
class Certificate:
    """Owner, issuer, the names it is for, first and last moment (UTC), SHA-256 of the whole as hex."""

    owner: str
    issuer: str
    names: tuple[str, ...]
    begins: datetime
    ends: datetime
    digest: str

    def seconds_left(self, now: datetime | None = None) -> float:
        """Until it expires; negative afterwards."""
        return (self.ends - (now or wall_clock.machine())).total_seconds()

    def wrong(self, now: datetime | None = None) -> str:
        """Why it does not hold at this time; empty when it does."""
        now = now or wall_clock.machine()
        if now < self.begins:
            return f"is valid only from {_said(self.begins)} (is this machine's clock right?)"
        if now >= self.ends:
            return f"expired on {_said(self.ends)}"
        return ""


def left(seconds: float) -> str:
    """A time as whole days, or hours below two days."""
    hours = abs(seconds) / 3600
    return f"{abs(seconds) / _DAY_SECONDS:.0f} days" if hours >= 48 else f"{hours:.0f} hours"


def _said(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def of(certificate: x509.Certificate) -> Certificate:
    return Certificate(
        owner=_name(certificate.subject) or ", ".join(_names(certificate)) or "without a name",
        issuer=_name(certificate.issuer) or "somebody without a name",
        names=_names(certificate),
        begins=certificate.not_valid_before_utc,
        ends=certificate.not_valid_after_utc,
        digest=certificate.fingerprint(hashes.SHA256()).hex(),
    )


def of_der(der: bytes) -> Certificate:
    return of(x509.load_der_x509_certificate(der))


def _name(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else name.rfc4514_string()


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    addresses = found.get_values_for_type(x509.IPAddress)
    return (*map(str, found.get_values_for_type(x509.DNSName)), *map(str, addresses))


def read(path: str | Path, variable: str) -> list[Certificate]:
    """The certificates of a PEM file, in its order. Invalid names the variable that names the file."""
    try:
        return [of(one) for one in x509.load_pem_x509_certificates(Path(path).read_bytes())]
    except (OSError, ValueError) as error:
        raise unreadable(variable, path, error) from None


def unreadable(variable: str, path: str | Path, error: Exception) -> Invalid:
    """A file that should hold PEM; what it holds is never quoted."""
    why = (error.strerror or "cannot be read") if isinstance(error, OSError) else "it is no PEM of the kind"
    return Invalid("BAD_SETTING", f"{variable}={path}: {why}; name a readable PEM file", variable)


def belong_together(chain: bytes, key: bytes) -> bool:
    """Whether a private key (PEM, not encrypted) is that of the first certificate. ValueError: no PEM."""
    first = x509.load_pem_x509_certificates(chain)[0]
    raw = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    private = serialization.load_pem_private_key(key, None)
    return private.public_key().public_bytes(*raw) == first.public_key().public_bytes(*raw)
