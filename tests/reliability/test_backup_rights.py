"""A backup is made and laid back with the rights that the chart gives; with fewer it is refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import confluent_kafka as ck
import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from pydantic import SecretStr
from pymongo import MongoClient

from deploy.charts.golden import KAFKA_SETS
from deploy.charts.render import BACKBONE, documents, template
from services.cli.backup import work
from services.cli.session import Failure, Unreachable
from services.kit.bus.migrate import migrate
from services.kit.settings import KafkaSettings, MongoSettings
from services.kit.testing.engines import (
    ASKING,
    KafkaEngine,
    MongoEngine,
    SecuredListeners,
    free_port,
    running,
)
from tests.reliability.test_backup import (
    CHANGELOG,
    DISPENSES,
    SITES,
    drop,
    lose_the_begin,
    produce,
    standing,
    with_holes,
)
from tests.suites.backbone import new_name

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]
PASSWORD = "pass-word-4711"
USERS = ("backup", "restore", "half", "no-groups", "nobody")
GROUP = "traceability.fold"
_OPERATIONS = {
    "AlterConfigs": AclOperation.ALTER_CONFIGS,
    "Create": AclOperation.CREATE,
    "Delete": AclOperation.DELETE,
    "Describe": AclOperation.DESCRIBE,
    "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
    "Read": AclOperation.READ,
    "Write": AclOperation.WRITE,
}
_PATTERNS = {"literal": ResourcePatternType.LITERAL, "prefix": ResourcePatternType.PREFIXED}
_KINDS = {"topic": ResourceType.TOPIC, "group": ResourceType.GROUP}


class Asking:
    """A Kafka where who logs in may do what he was given, and who does not log in everything."""

    def __init__(self, engine: KafkaEngine, sasl_port: int) -> None:
        self.everybody = KafkaSettings(bootstrap_servers=engine.bootstrap)
        self._sasl = f"127.0.0.1:{sasl_port}"
        self.admin: Any = AdminClient({"bootstrap.servers": engine.bootstrap})

    def user(self, name: str) -> KafkaSettings:
        return KafkaSettings(
            bootstrap_servers=self._sasl,
            security_protocol="SASL_PLAINTEXT",
            sasl_mechanism="PLAIN",
            sasl_username=name,
            sasl_password=SecretStr(PASSWORD),
        )

    def grant(self, user: str, acls: list[dict[str, Any]]) -> None:
        """Rights as the chart writes them."""
        bindings = [
            AclBinding(
                _KINDS[acl["resource"]["type"]],
                acl["resource"]["name"],
                _PATTERNS[acl["resource"]["patternType"]],
                f"User:{user}",
                "*",
                _OPERATIONS[operation],
                AclPermissionType.ALLOW,
            )
            for acl in acls
            for operation in acl["operations"]
        ]
        for future in self.admin.create_acls(bindings).values():
            future.result(10)


@contextmanager
def asking_kafka(folder: Path) -> Iterator[Asking]:
    sasl = free_port()
    secured = SecuredListeners(sasl, dict.fromkeys(USERS, PASSWORD))
    asking = {**ASKING, "super.users": "User:ANONYMOUS"}
    engine = KafkaEngine(folder / "data", free_port(), free_port(), secured=secured, settings=asking)
    with running(engine, folder / "kafka.log", timeout=120):
        yield Asking(engine, sasl)


def rights(user: str) -> list[dict[str, Any]]:
    """What the chart gives."""
    found = documents(template(BACKBONE, sets=KAFKA_SETS))
    (one,) = (d for d in found if d["kind"] == "KafkaUser" and d["metadata"]["name"] == f"pharmaloop-{user}")
    return list(one["spec"]["authorization"]["acls"])


def told(kafka: Asking) -> dict[tuple[str, int], int]:
    """What the group has told."""
    reader = ck.Consumer({"bootstrap.servers": kafka.everybody.bootstrap_servers, "group.id": GROUP})
    committed = reader.committed([ck.TopicPartition(DISPENSES, 0)], timeout=10)
    reader.close()
    return {(at.topic, at.partition): at.offset for at in committed}


def fill(kafka: Asking) -> None:
    """Records, a begin that retention took, holes of transactions, a group's word."""
    migrate(kafka.everybody, SITES)
    produce(kafka.everybody, DISPENSES, [b"gone", b"gone too", b"stays", None])
    lose_the_begin(kafka.everybody, DISPENSES, 2)
    with_holes(kafka.everybody, CHANGELOG)
    reader = ck.Consumer({"bootstrap.servers": kafka.everybody.bootstrap_servers, "group.id": GROUP})
    reader.commit(offsets=[ck.TopicPartition(DISPENSES, 0, 3)], asynchronous=False)
    reader.close()


def test_the_chart_gives_a_backup_and_a_restore_what_they_need(mongo: str, tmp_path: Path) -> None:
    database, backup = new_name("t"), tmp_path / "backup"

    def engines(settings: KafkaSettings) -> work.Engines:
        return work.Engines(settings, MongoSettings(uri=mongo), prefix=database)

    with MongoClient[Any](mongo) as client:
        client[database]["notes"].insert_one({"_id": "one"})
    with asking_kafka(tmp_path / "a") as first:
        fill(first)
        was, said = standing(first.everybody, DISPENSES, CHANGELOG), told(first)
        first.grant("backup", rights("backup"))
        of_topics, of_groups = rights("backup")
        first.grant("no-groups", [of_topics])
        some = {**of_topics, "resource": {**of_topics["resource"], "name": "pharmaloop.production"}}
        first.grant("half", [some, of_groups])
        work.make(engines(first.user("backup")), backup)
        for user, lacks in (("nobody", "topic "), ("half", "topic "), ("no-groups", "all groups")):
            with pytest.raises(Failure, match=f"no right to see {lacks}"):
                work.make(engines(first.user(user)), tmp_path / user)
            assert not list(tmp_path.glob(f"{user}*"))
    drop(mongo, database)
    with asking_kafka(tmp_path / "b") as second:
        second.grant("backup", rights("backup"))
        with pytest.raises(Unreachable, match="this user lacks a right"):
            work.restore(engines(second.user("backup")), backup)
        second.grant("restore", rights("restore"))
        work.restore(engines(second.user("restore")), backup)
        now = standing(second.everybody, DISPENSES, CHANGELOG)
        assert all(set(records) <= set(now[place]) for place, records in was.items()), "holes are filled"
        assert now[DISPENSES, 0] == was[DISPENSES, 0]
        assert told(second) == said == {(DISPENSES, 0): 3}
    with MongoClient[Any](mongo) as client:
        assert client[database]["notes"].find_one() == {"_id": "one"}


def test_logins_of_mongodb_need_what_the_docs_say_and_one_that_sees_some_databases_is_refused(
    tmp_path: Path,
) -> None:
    """MongoDB would list those that it may read, and the backup would lack the others."""
    folder, port = tmp_path / "mongod", free_port()
    plain = MongoEngine(folder, port)
    with running(plain, tmp_path / "first.log"), MongoClient[Any](plain.uri) as client:
        create = client.admin.command
        create("createUser", "root", pwd=PASSWORD, roles=["root"])
        create("createUser", "one", pwd=PASSWORD, roles=[{"role": "read", "db": "pharmaloop_rnd"}])
        create("createUser", "all", pwd=PASSWORD, roles=["readAnyDatabase"])
        create("createUser", "back", pwd=PASSWORD, roles=["readWriteAnyDatabase"])
        for name in ("pharmaloop_rnd", "pharmaloop_loops"):
            client[name]["notes"].insert_one({"_id": "one"})
            client[name]["notes"].create_index("of")
    asking = MongoEngine(folder, port, ("root", PASSWORD))
    with asking_kafka(tmp_path / "kafka") as kafka, running(asking, tmp_path / "second.log"):
        migrate(kafka.everybody, SITES)

        def engines(user: str) -> work.Engines:
            uri = f"mongodb://{user}:{PASSWORD}@127.0.0.1:{port}/?replicaSet=rs0&authSource=admin"
            return work.Engines(kafka.everybody, MongoSettings(uri=uri))

        with pytest.raises(Unreachable, match="may not list all databases"):
            work.make(engines("one"), tmp_path / "one")
        made = work.make(engines("all"), tmp_path / "all")
        assert {one.database for one in made.collections} == {"pharmaloop_rnd", "pharmaloop_loops"}
        for name in made.databases:
            drop(asking.uri, name)
        work.restore(engines("back"), tmp_path / "all")
        with MongoClient[Any](asking.uri) as client:
            assert [client[name]["notes"].count_documents({}) for name in made.databases] == [1, 1]
