"""The certificates that this process stands on: until when they hold, said before they expire.

    python -m services.kit.tls.expiry

lists those that the environment names; exit code 1 where one does not hold.

gRPC takes renewed files by itself. The clients of Kafka and MongoDB keep what they
read at their start, so a process whose files were renewed meanwhile ends, for its
supervisor to start it again: long before the old certificate expires, and each
process of an installation at a time of its own.
"""

from __future__ import annotations

import asyncio
import sys
import zlib
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NoReturn

from services.kit.clock import wall_clock
from services.kit.errors import Invalid, Retryable
from services.kit.log import get_logger
from services.kit.metrics import CERTIFICATE_EXPIRES, Metrics
from services.kit.settings import KafkaSettings, MongoSettings, TlsSettings, read_settings
from services.kit.tls import certificates
from services.kit.tls.certificates import Certificate
from services.kit.tls.identity import CA, CERT

_log = get_logger("kit.tls")
LOOK_SECONDS = 10.0
#: As long before its end somebody is told (the alert CertificateExpires has the same).
SOON_SECONDS = 14 * 86_400.0
_TELL_SECONDS = 86_400.0
#: All processes begin anew within this part of the time that the old certificate still holds when the new one
#: is seen, and within so many hours: brokers may soon show what the old authority did not sign.
_WITHIN, _WITHIN_AT_MOST = 0.5, timedelta(hours=6)


class Renewed(Retryable):
    """A process ends, to begin anew with certificates that its clients read only at their start."""


@dataclass(frozen=True)
class Paper:
    """A file with certificates. `part` is what it secures, as the metric names it.

    `reread`: a renewed file is taken without a new start. Of several certificates in a file the first to
    expire counts, but of an `authority`'s the last.
    """

    part: str
    variable: str
    path: str
    reread: bool = False
    authority: bool = False

    def read(self) -> Certificate:
        """The certificate by which the file stands or falls. Invalid, with the variable."""
        found = certificates.read(self.path, self.variable)
        return (max if self.authority else min)(found, key=lambda one: one.ends)


def papers(tls: TlsSettings, kafka: KafkaSettings, mongo: MongoSettings) -> Iterator[Paper]:
    """Every file of certificates that the settings name."""
    known = (
        Paper("grpc", CERT, tls.cert, reread=True),
        Paper("grpc authority", CA, tls.ca, reread=True, authority=True),
        Paper("kafka", "KAFKA_SSL_CERTIFICATE_LOCATION", kafka.ssl_certificate_location),
        Paper("kafka authority", "KAFKA_SSL_CA_LOCATION", kafka.ssl_ca_location, authority=True),
        Paper("database", "MONGODB_TLS_CERTIFICATE_KEY_FILE", mongo.tls_certificate_key_file),
        Paper("database authority", "MONGODB_TLS_CA_FILE", mongo.tls_ca_file, authority=True),
    )
    return (paper for paper in known if paper.path)


@dataclass
class Expiry:
    """Watches the files of one process. What is wrong stands in `waits`, by part: it is not ready then."""

    papers: list[Paper]
    instance: str
    metrics: Metrics
    waits: MutableMapping[str, str]
    _held: dict[str, Certificate] = field(default_factory=dict)
    _told: dict[str, datetime] = field(default_factory=dict)
    _due: dict[str, datetime] = field(default_factory=dict)

    async def watch(self) -> None:
        """Look again and again; ends only by Renewed."""
        while True:
            await asyncio.to_thread(self.look)
            await asyncio.sleep(LOOK_SECONDS)

    def look(self, now: datetime | None = None) -> None:
        """Look once. Renewed when it is time to begin anew."""
        now = now or wall_clock.machine()
        for paper in self.papers:
            key = f"certificate of {paper.part}"
            try:
                there = paper.read()
            except Invalid as error:
                self.waits[key] = error.description
                continue
            held = there if paper.reread else self._held.setdefault(paper.part, there)
            self.metrics.set(CERTIFICATE_EXPIRES, held.seconds_left(now), part=paper.part)
            renewed = there.digest != held.digest and not there.wrong(now)
            if wrong := held.wrong(now):
                mend = "the file holds a newer one, and the process begins anew" if renewed else "renew it"
                self.waits[key] = f"{held.owner} ({paper.variable}={paper.path}) {wrong}: {mend}"
            else:
                self.waits.pop(key, None)
                self._warn(paper, held, now)
            if renewed:
                self._begin_anew(paper, held, there, now)
            else:
                self._due.pop(paper.part, None)

    def _warn(self, paper: Paper, held: Certificate, now: datetime) -> None:
        told = self._told.get(paper.part)
        if held.seconds_left(now) > SOON_SECONDS:
            self._told.pop(paper.part, None)
        elif told is None or (now - told).total_seconds() > _TELL_SECONDS:
            self._told[paper.part] = now
            expires = f"{held.owner} expires in {certificates.left(held.seconds_left(now))}: renew it"
            _log.warning("a certificate expires soon", variable=paper.variable, reason=expires)

    def _begin_anew(self, paper: Paper, held: Certificate, there: Certificate, now: datetime) -> None:
        """At a moment of this instance's own, that does not move once a new file was seen."""
        share = zlib.crc32(self.instance.encode()) / 2**32
        within = min(max(_WITHIN * (held.ends - now), timedelta(0)), _WITHIN_AT_MOST)
        due = self._due.setdefault(paper.part, now + share * within)
        if now >= due:
            raise Renewed(
                f"{paper.variable}={paper.path}: {there.owner} was renewed, and holds until "
                f"{there.ends:%Y-%m-%d}; the process begins anew with it"
            )


def main() -> NoReturn:
    """A table of the certificates that this environment names."""
    try:
        tls, kafka = read_settings(TlsSettings), read_settings(KafkaSettings)
        found = list(papers(tls, kafka, read_settings(MongoSettings)))
    except Invalid as error:
        sys.exit(error.description)
    if not found:
        print("no certificates are named: PHARMALOOP_TLS_CERT, KAFKA_SSL_..., MONGODB_TLS_...")
    wrong = [_line(paper) for paper in found]
    sys.exit(1 if any(wrong) else 0)


def _line(paper: Paper) -> bool:
    try:
        one = paper.read()
    except Invalid as error:
        print(f"{paper.part}: {error.description}")
        return True
    why = one.wrong()
    told = f"{why}: renew it" if why else f"expires in {certificates.left(one.seconds_left())}"
    print(f"{paper.part}: {one.owner}, issued by {one.issuer}, {told} ({paper.variable}={paper.path})")
    return bool(why)


if __name__ == "__main__":
    main()
