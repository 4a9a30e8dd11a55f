"""The certificates of this process for gRPC, read anew when their files change.

cert-manager replaces the files of a mounted Secret at once; a server takes the
new ones with the next connection, a channel with the next call. Connections
that stand go on. Files that do not belong together are left where they are,
and the last ones that did stay in use.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import cast

import grpc

from services.kit.errors import Invalid
from services.kit.log import get_logger
from services.kit.settings import TlsSettings
from services.kit.tls import certificates

_log = get_logger("kit.tls")
_LOOK_SECONDS = 1.0
CERT, KEY, CA = "PHARMALOOP_TLS_CERT", "PHARMALOOP_TLS_KEY", "PHARMALOOP_TLS_CA"
Stand = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class Files:
    """What the three files held at one moment."""

    chain: bytes
    key: bytes
    authorities: bytes


class Identity:
    """Who this process is to others; asked from any thread."""

    def __init__(self, settings: TlsSettings, stopwatch: Callable[[], float] = time.monotonic) -> None:
        """Invalid, with the variable, when the files cannot be used."""
        self.settings = settings
        self._stopwatch = stopwatch
        self._lock = threading.Lock()
        self._stand = self._look()
        self._looked = stopwatch()
        self._files = _read(settings)

    def files(self) -> Files:
        """The newest files that can be used; the same object while they do not change."""
        with self._lock:
            now = self._stopwatch()
            if now - self._looked >= _LOOK_SECONDS:
                self._looked = now
                self._renew()
            return self._files

    def _renew(self) -> None:
        stand = self._look()
        if stand == self._stand:
            return
        self._stand = stand
        try:
            files = _read(self.settings)
        except Invalid as error:
            _log.warning("changed certificates cannot be used, the earlier stay", reason=error.description)
            return
        if files != self._files:
            self._files = files
            _log.info("certificates renewed", ends=_ends(self.settings))

    def _look(self) -> Stand:
        """Which files there are now, without reading them."""
        found = []
        for path in (self.settings.cert, self.settings.key, self.settings.ca):
            try:
                stat = Path(path).stat()
            except OSError:
                found.append((0, 0, 0))
            else:
                found.append((stat.st_ino, stat.st_mtime_ns, stat.st_size))
        return tuple(found)


def _ends(settings: TlsSettings) -> str:
    return min(one.ends for one in certificates.read(settings.cert, CERT)).isoformat()


def _read(settings: TlsSettings) -> Files:
    contents = []
    for variable, path in ((CERT, settings.cert), (KEY, settings.key), (CA, settings.ca)):
        try:
            contents.append(Path(path).read_bytes())
        except OSError as error:
            raise certificates.unreadable(variable, path, error) from None
    certificates.read(settings.cert, CERT)
    certificates.read(settings.ca, CA)
    files = Files(*contents)
    try:
        theirs = certificates.belong_together(files.chain, files.key)
    except (ValueError, TypeError) as error:
        raise certificates.unreadable(KEY, settings.key, error) from None
    if not theirs:
        told = f"{KEY}={settings.key}: this is not the key of {CERT}; name its key"
        raise Invalid("BAD_SETTING", told, KEY)
    return files


@cache
def identity(settings: TlsSettings) -> Identity:
    """The identity of these files, one for the whole process."""
    return Identity(settings)


def server_credentials(who: Identity) -> grpc.ServerCredentials:
    """Callers have to prove who they are; every new connection gets the newest certificate."""
    told, lock = who.files(), threading.Lock()

    def newer() -> grpc.ServerCertificateConfiguration | None:
        nonlocal told
        now = who.files()
        with lock:
            if now is told:
                return None
            told = now
        return _configuration(now)

    # None is allowed, and says that nothing changed; the stubs of types do not know it.
    asked = cast(Callable[[], grpc.ServerCertificateConfiguration], newer)
    return grpc.dynamic_ssl_server_credentials(_configuration(told), asked, True)


def _configuration(files: Files) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(files.key, files.chain)], files.authorities)


def channel_credentials(files: Files) -> grpc.ChannelCredentials:
    """For a channel: these files for as long as it stands."""
    return grpc.ssl_channel_credentials(files.authorities, files.key, files.chain)
