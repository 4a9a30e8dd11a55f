"""Is there a database behind MONGODB_URI, does it let us in, and can it do transactions?

The driver waits and then tells a whole topology; here its causes become one
sentence that names the setting. The connection string holds a password: it is
never quoted, nor is a message of the driver that may quote it.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable
from typing import Any, TypeVar

from pymongo import MongoClient
from pymongo.errors import (
    AutoReconnect,
    ConfigurationError,
    ConnectionFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WTimeoutError,
)
from pymongo.uri_parser import parse_uri

from services.kit.clock import wall_clock
from services.kit.errors import Integrity, Invalid, PharmaLoopError, Retryable
from services.kit.settings import MongoSettings
from services.kit.startup.backbone import reach
from services.kit.store.kinds import Doc
from services.kit.store.mongo import client_options
from services.kit.tls import certificates, handshake

T = TypeVar("T")
URI = "MONGODB_URI"
#: Wire version of MongoDB 6.0, the oldest that the platform runs on.
OLDEST_WIRE, OLDEST = 17, "6.0"
_BOUNDS = {"serverSelectionTimeoutMS": 2000, "connectTimeoutMS": 2000, "socketTimeoutMS": 4000}
_UNAUTHORIZED, _AUTHENTICATION_FAILED = 13, 18
OUT_OF_DISK = 14031
_RTT_SECONDS = 0.5


def _invalid(text: str, variable: str = URI) -> Invalid:
    return Invalid("DATABASE", f"{variable}: {text}", variable)


def explain(error: PyMongoError, database: str) -> PharmaLoopError:
    """A driver's error as one that says what to do."""
    code = getattr(error, "code", None)
    if code == _AUTHENTICATION_FAILED:
        return _invalid(
            "the database refused this user or password: correct them, and authSource= if it is not admin"
        )
    if code == _UNAUTHORIZED:
        return _invalid(
            f"the user may not write to database {database!r}: give it readWrite on it, or name a user"
        )
    if code == OUT_OF_DISK or "No space left" in str(error):
        return Retryable("the disk of the database is full: free some space there; nothing is lost meanwhile")
    if isinstance(error, WTimeoutError):
        return Retryable("the database does not confirm writes on a majority: see the members of its set")
    if isinstance(error, ConnectionFailure):
        return Retryable(f"the database does not answer ({_brief(error)})")
    return Retryable(f"the database refuses to write ({_brief(error)})")


async def explained(work: Awaitable[T], database: str) -> T:
    """Wait for work on the database; its error says what to do."""
    try:
        return await work
    except PyMongoError as error:
        raise explain(error, database) from None


def _brief(error: PyMongoError) -> str:
    """The first words of the driver: what follows is its whole view of the cluster."""
    return str(error).split(", full error")[0].split(" (configured timeouts")[0].split(", Timeout:")[0][:200]


class DatabaseProbe:
    """Asks the database, in bounded time, whether it is there and fit for use."""

    def __init__(self, settings: MongoSettings, database: str) -> None:
        self._options = {**client_options(settings), **_BOUNDS, "maxPoolSize": 2}
        self._settings = settings
        self._tls = bool(settings.tls_ca_file or settings.tls_certificate_key_file)
        self.database = database
        try:
            # Some versions of the driver quote the port, which may be a part of a password.
            self._parsed = parse_uri(settings.uri, warn=True)
            self._client: MongoClient[Doc] = MongoClient(settings.uri, **self._options)
        except (PyMongoError, ValueError) as error:
            kind = "mongodb:// or mongodb+srv://" if "scheme" in str(error) else "user:password@host:port"
            raise _invalid(
                f"this is not a connection string ({kind} expected); write it as mongodb://user:password@host:"
                "27017/?replicaSet=rs0, with @ : / % in a password percent-encoded"
            ) from None
        except OSError:
            files = {"MONGODB_TLS_CERTIFICATE_KEY_FILE": settings.tls_certificate_key_file}
            for variable, path in {"MONGODB_TLS_CA_FILE": settings.tls_ca_file, **files}.items():
                if path:
                    certificates.read(path, variable)
            raise _invalid("a TLS file cannot be read; correct it", next(iter(files))) from None

    def check(self) -> None:
        """Raises what keeps us out. Invalid: the settings; Retryable: it may come by itself."""
        said = self._hello()
        if said is not None:
            self._check_server(said)
        try:
            self._client.admin.command("ping")
            self._client[self.database]["_presence"].find_one({"_id": ""})
        except ServerSelectionTimeoutError as error:
            raise self._unselected(said, error) from None
        except PyMongoError as error:
            raise explain(error, self.database) from None

    def _hello(self) -> Doc | None:
        """What the first server that answers says of itself; None where only the driver can find it (SRV)."""
        if self._parsed.get("fqdn"):
            return None
        troubles, outside = [], None
        for host, port in self._parsed["nodelist"]:
            address = f"{host}:{port}"
            if trouble := reach(address):
                troubles.append(f"{address} {trouble}")
                continue
            options = {**self._options, "directConnection": True, "tls": self._wants_tls()}
            try:
                with MongoClient[Doc](host, port, **options) as client:
                    said = client.admin.command("hello")
            except ConfigurationError as error:
                raise _too_old(str(error)) from None
            except AutoReconnect as error:
                told = self._of_certificates(address)
                troubles.append(
                    told or f"{address} does not answer in the protocol of MongoDB ({_brief(error)})"
                )
            else:
                if not _knows_no_set(said):
                    return said
                # It may only be starting again, and the others have the set.
                outside = outside or said
        if outside is not None:
            return outside
        raise Retryable(
            f"no database answers ({'; '.join(troubles)}): start it, or correct {URI}; "
            "if it wants TLS, give MONGODB_TLS_CA_FILE"
        )

    def _of_certificates(self, address: str) -> str:
        """Whose certificate keeps us out, and what is wrong with it; empty where none is known to."""
        if self._wants_tls():
            authority, own = self._settings.tls_ca_file, self._settings.tls_certificate_key_file
            return handshake.of_mongodb(address, authority, own) if authority else ""
        return f"{address} speaks TLS" if handshake.speaks_tls(address) else ""

    def _wants_tls(self) -> bool:
        return self._tls or bool(self._option("tls") or self._option("ssl"))

    def _option(self, name: str) -> Any:
        """An option of the connection string, however it is spelled."""
        options = {key.lower(): value for key, value in self._parsed["options"].items()}
        return options.get(name)

    def _check_server(self, said: Doc) -> None:
        if int(said.get("maxWireVersion", 0)) < OLDEST_WIRE:
            raise _too_old("")
        name, wanted = said.get("setName"), self._option("replicaset")
        if said.get("msg") == "isdbgrid":
            return
        if _knows_no_set(said):
            raise Retryable(
                f"{URI}: the replica set is not initiated yet: run rs.initiate() once on one member"
            )
        if name is None:
            raise _invalid(
                "this MongoDB is no replica set, and transactions need one: start mongod with --replSet rs0 "
                "and run rs.initiate() once (one member is enough)"
            )
        if wanted and wanted != name:
            raise _invalid(f"it says replicaSet={wanted} and the server is of the set {name}: correct it")

    def _unselected(self, said: Doc | None, error: PyMongoError) -> PharmaLoopError:
        members = (said or {}).get("hosts", [])
        lost = [f"{member} {trouble}" for member in members if (trouble := reach(member))]
        if lost:
            return Retryable(
                f"the replica set sends its clients to members out of reach ({'; '.join(lost)}): "
                f"start them, or correct the names in its configuration (rs.conf())"
            )
        return Retryable(f"the replica set has no primary that takes writes ({_brief(error)})")

    def skew(self) -> float | None:
        """Seconds by which the database's clock is ahead of this machine's; None where it cannot be told."""
        begun, before = time.monotonic(), wall_clock.machine()
        try:
            there = self._client.admin.command("hello").get("localTime")
        except PyMongoError:
            return None
        taken = time.monotonic() - begun
        if there is None or taken > _RTT_SECONDS:
            return None
        return float(there.replace(tzinfo=before.tzinfo).timestamp() - before.timestamp() - taken / 2)

    def collection(self, name: str) -> Any:
        return self._client[self.database][name]

    def close(self) -> None:
        self._client.close()


def _knows_no_set(said: Doc) -> bool:
    """Does the server wait to be told of which replica set it is, or to read it?"""
    return bool(said.get("isreplicaset") or (said.get("setName") is None and said.get("info")))


def _too_old(text: str) -> PharmaLoopError:
    if text and "wire version" not in text:
        return Integrity(f"{URI}: the driver refuses this server")
    return _invalid(f"this MongoDB is older than {OLDEST}, the oldest that the platform runs on: upgrade it")
