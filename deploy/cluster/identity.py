"""Who is who in the cluster: a certificate authority, the parts' certificates, and their kubeconfig files.

Everything is made anew at each start and lies in the cluster's own folder; it
opens nothing but that cluster, which listens on loopback alone.
"""

import base64
import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

#: The first address of the range of services: what pods would call the server by.
SERVICE_ADDRESS = "10.96.0.1"
LIFETIME = datetime.timedelta(days=30)

#: File name -> (user, group) of everyone who speaks to the server.
USERS = {
    "admin": ("admin", "system:masters"),
    "kube-controller-manager": ("system:kube-controller-manager", ""),
    "kube-scheduler": ("system:kube-scheduler", ""),
}


@dataclass(frozen=True, slots=True)
class Authority:
    """Signs certificates."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    def issue(self, user: str, group: str = "", *addresses: str) -> tuple[bytes, bytes]:
        """A new private key and its certificate, both PEM, for a user or for a server on these addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.NameAttribute(NameOID.COMMON_NAME, user)]
        names += [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group)] if group else []
        builder = _builder(x509.Name(names), self.certificate.subject, key.public_key())
        if addresses:
            listed = [x509.IPAddress(ipaddress.ip_address(one)) for one in addresses]
            builder = builder.add_extension(x509.SubjectAlternativeName(listed), critical=False)
        return _pem(key), _certificate_pem(builder.sign(self.key, hashes.SHA256()))


def new_authority() -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pharmaloop-test-cluster")])
    builder = _builder(name, name, key.public_key())
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return Authority(key, builder.sign(key, hashes.SHA256()))


def write(folder: Path, server: str) -> None:
    """What the parts are started with: ca.crt, server.crt/.key, sa.key/.pub and one NAME.conf per user.

    `anybody.conf` names the server and nobody: what is run with it brings its own token (a client certificate
    in the file would win over the token).
    """
    authority = new_authority()
    ca = _certificate_pem(authority.certificate)
    key, certificate = authority.issue("kube-apiserver", "", "127.0.0.1", SERVICE_ADDRESS)
    accounts = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = accounts.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    secrets = {
        "ca.crt": ca,
        "server.key": key,
        "server.crt": certificate,
        "sa.key": _pem(accounts),
        "sa.pub": public,
    }
    for user, (name, group) in USERS.items():
        key, certificate = authority.issue(name, group)
        secrets[f"{user}.conf"] = _kubeconfig(
            server, ca, {"client-key-data": _base64(key), "client-certificate-data": _base64(certificate)}
        )
    secrets["anybody.conf"] = _kubeconfig(server, ca, {})
    for file, content in secrets.items():
        (folder / file).touch(mode=0o600)
        (folder / file).write_bytes(content)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + LIFETIME)
    )


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


def _certificate_pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _kubeconfig(server: str, ca: bytes, user: dict[str, str]) -> bytes:
    cluster = {"server": server, "certificate-authority-data": _base64(ca)}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "test", "user": user}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "current-context": "test",
    }
    return yaml.safe_dump(config).encode()
