"""Why no secure connection comes about: whose certificate it is, what is wrong with it, what to do.

gRPC, librdkafka and the driver of MongoDB tell little of it, and nothing of a certificate
that the other side refused: with TLS 1.3 it only hangs up. So the connection is made
once more here, step by step, by the standard library, and what is found is said.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from dataclasses import dataclass

from services.kit.errors import Invalid
from services.kit.settings import KafkaSettings, TlsSettings, read_settings
from services.kit.tls import certificates
from services.kit.tls.identity import CA, CERT

_SECONDS = 2.0
#: What a client of HTTP/2 says first (RFC 9113, 3.4), with empty settings: an answer shows that it is let in.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
_EXPIRED, _NOT_YET, _OTHER_NAME, _OTHER_ADDRESS = 10, 9, 62, 64
#: What gRPC says of connections that failed for such a reason, and of some others.
_SIGNS = ("handshake failed", "verification check failed", "socket closed", "connection reset")


@dataclass(frozen=True)
class Side:
    """The files of this side, and the variables that name them; without a certificate it has none to show."""

    authority: str
    certificate: str
    key: str
    authority_variable: str = CA
    certificate_variable: str = CERT
    #: What is sent when the connection stands, so that the other side says something; "" where nothing is.
    greeting: bytes = _PREFACE
    protocols: tuple[str, ...] = ("h2",)


def is_sign(details: str | None) -> bool:
    """Whether words of gRPC may tell of a certificate."""
    return any(sign in (details or "").lower() for sign in _SIGNS)


def of_grpc(address: str) -> str:
    """Why gRPC to host:port fails, as the environment says how it is secured; empty where TLS is not why."""
    try:
        tls = read_settings(TlsSettings)
    except Invalid as error:
        return error.description
    if tls.on:
        return trouble(address, Side(tls.ca, tls.cert, tls.key))
    if speaks_tls(address):
        return (
            f"{address} speaks TLS and this process does not: set PHARMALOOP_TLS_CERT, PHARMALOOP_TLS_KEY "
            "and PHARMALOOP_TLS_CA (docs/tls.md)"
        )
    return ""


def of_kafka(address: str, kafka: KafkaSettings) -> str:
    """The same for a broker."""
    names = ("KAFKA_SSL_CA_LOCATION", "KAFKA_SSL_CERTIFICATE_LOCATION")
    files = (kafka.ssl_ca_location, kafka.ssl_certificate_location, kafka.ssl_key_location)
    return trouble(address, Side(*files, *names, b"", ()))


def of_mongodb(address: str, authority: str, certificate: str) -> str:
    """The same for a member of the database; its file holds certificate and key."""
    names = ("MONGODB_TLS_CA_FILE", "MONGODB_TLS_CERTIFICATE_KEY_FILE")
    return trouble(address, Side(authority, certificate, certificate, *names, b"", ()))


def trouble(address: str, side: Side) -> str:
    """What is wrong with the certificates between this side and host:port; empty if nothing is found."""
    try:
        return _own(side) or _shake_hands(address, side, _context(side))
    except Invalid as error:
        return error.description
    except (OSError, ValueError):
        return ""


def _shake_hands(address: str, side: Side, context: ssl.SSLContext) -> str:
    host = address.rpartition(":")[0].strip("[]")
    try:
        with _connect(address) as plain, context.wrap_socket(plain, server_hostname=host) as secure:
            return _after(secure, address, side)
    except ssl.SSLCertVerificationError as error:
        return _theirs(error, address, host, side)
    except ssl.SSLError as error:
        if "alert" in str(error.reason or "").lower():
            return _refused(address, side, str(error.reason))
        return f"{address} does not speak TLS, and this process does: secure both, or neither (docs/tls.md)"


def speaks_tls(address: str) -> bool:
    """Whether whoever listens at host:port takes a TLS handshake; who wants a certificate for it does."""
    with contextlib.suppress(OSError, ValueError):
        return _peer(address) is not None
    return False


def _own(side: Side) -> str:
    if not side.certificate:
        return ""
    own = certificates.read(side.certificate, side.certificate_variable)[0]
    if wrong := own.wrong():
        where = f"{own.owner}; {side.certificate_variable}={side.certificate}"
        return f"the certificate of this process ({where}) {wrong}: renew it"
    return ""


def _context(side: Side) -> ssl.SSLContext:
    context = ssl.create_default_context()
    try:
        if side.authority:
            context = ssl.create_default_context(cafile=side.authority)
    except (OSError, ValueError) as error:
        raise certificates.unreadable(side.authority_variable, side.authority, error) from None
    # What is asked is only whether the authority signed and the time is right, as the clients ask it.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    try:
        if side.certificate:
            context.load_cert_chain(side.certificate, side.key)
    except (OSError, ValueError) as error:
        raise certificates.unreadable(side.certificate_variable, side.certificate, error) from None
    if side.protocols:
        context.set_alpn_protocols(list(side.protocols))
    return context


def _connect(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    found = socket.create_connection((host.strip("[]"), int(port)), _SECONDS)
    found.settimeout(_SECONDS)
    return found


def _after(secure: ssl.SSLSocket, address: str, side: Side) -> str:
    """The handshake is done on this side. What the other side thinks of it shows in what it says next."""
    try:
        if side.greeting:
            secure.sendall(side.greeting)
        else:
            secure.settimeout(_SECONDS / 4)
        if secure.recv(1):
            return ""
    except ssl.SSLError as error:
        return _refused(address, side, str(error.reason))
    except TimeoutError:
        return ""  # it waits for what is not said here, so it let us in
    except OSError:
        pass
    return _refused(address, side, "") if side.greeting else ""


def _refused(address: str, side: Side, alert: str) -> str:
    """The other side does not take what this one showed."""
    if not side.certificate:
        variable = side.certificate_variable
        return f"{address} asks for a certificate, and this process has none: name it in {variable}"
    own = certificates.read(side.certificate, side.certificate_variable)[0]
    told = f" ({alert.lower().replace('_', ' ')})" if alert and alert != "None" else ""
    return (
        f"{address} refuses the certificate of this process{told}: {own.owner}, issued by {own.issuer} "
        f"({side.certificate_variable}={side.certificate}); show one of an authority that it takes, "
        "or have that authority added there"
    )


def _theirs(error: ssl.SSLCertVerificationError, address: str, host: str, side: Side) -> str:
    peer = None
    with contextlib.suppress(OSError, ValueError):
        peer = _peer(address)
    if peer is None:
        return f"the certificate of {address} does not hold: {error.verify_message}"
    whose = f"the certificate of {address} ({peer.owner}, issued by {peer.issuer})"
    if error.verify_code in (_EXPIRED, _NOT_YET):
        # Where its own time is right, that of a certificate above it is not.
        wrong = peer.wrong() or f"stands on one that is not valid now ({error.verify_message})"
        return f"{whose} {wrong}: renew it there"
    if error.verify_code in (_OTHER_NAME, _OTHER_ADDRESS):
        names = ", ".join(peer.names) or "no name at all"
        return f"{whose} is for {names}, not for {host}: call it by such a name, or have it issued for this"
    taken = f"{side.authority_variable}={side.authority}" if side.authority else "of this system"
    return (
        f"{whose} is not signed by an authority that this process takes ({taken}): name the one that signed "
        f"it in {side.authority_variable}, or give both sides certificates of one"
    )


def _peer(address: str) -> certificates.Certificate | None:
    """Who answers there, whatever it is worth; None where it shows no certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with _connect(address) as plain, context.wrap_socket(plain) as secure:
        der = secure.getpeercert(binary_form=True)
    return certificates.of_der(der) if der else None
