"""The backbone's resources: topics as the migration would make them, and rights that are enough and exact."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.charts.backbone import MIGRATE
from deploy.charts.catalogue import WORKLOADS, reads
from deploy.charts.golden import KAFKA_SETS
from deploy.charts.render import BACKBONE, documents, template
from services.kit.bus.migrate import wanted
from services.kit.bus.register import TOPIC as REGISTER
from services.kit.contracts import contract, event_type
from services.kit.settings import KafkaSettings
from services.kit.startup.backbone import needed
from services.loops.checks import Needs
from services.loops.engine import APP_ID
from services.loops.handlers import CASE_TOPIC, DEADLINE_EVENTS, RUN_EVENTS
from tests.charts.resources import Resources

SITES = ("hospital-a", "hospital-b")


def _rights(backbone: Resources, name: str) -> dict[str, set[str]]:
    """Operations of a user by topic."""
    acls = backbone.named("KafkaUser", f"pharmaloop-{name}")["spec"]["authorization"]["acls"]
    return {
        acl["resource"]["name"]: set(acl["operations"])
        for acl in acls
        if acl["resource"]["type"] == "topic" and acl["resource"]["patternType"] == "literal"
    }


def _groups(backbone: Resources, name: str) -> set[str]:
    acls = backbone.named("KafkaUser", f"pharmaloop-{name}")["spec"]["authorization"]["acls"]
    groups = [acl["resource"] for acl in acls if acl["resource"]["type"] == "group"]
    return {group["name"] for group in groups if group["patternType"] == "literal"}


def _users() -> list[tuple[Any, str]]:
    return [(w, site) for w in WORKLOADS for site in (SITES if w.site else ("",))]


def test_topics_are_the_ones_that_the_migration_would_make(backbone: Resources) -> None:
    kafka = KafkaSettings.model_construct(replication_factor=3, min_insync_replicas=2)
    made = {
        topic.topic: (topic.num_partitions, topic.replication_factor, topic.config)
        for topic in wanted(contract(), SITES, kafka)
    }
    rendered = {
        t["spec"]["topicName"]: (t["spec"]["partitions"], t["spec"]["replicas"], t["spec"]["config"])
        for t in backbone.of("KafkaTopic")
    }
    assert rendered == made


def test_topics_stay_when_the_release_goes(backbone: Resources) -> None:
    for kind in ("Kafka", "KafkaNodePool", "KafkaTopic"):
        for one in backbone.of(kind):
            assert one["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    for pool in backbone.of("KafkaNodePool"):
        assert all(volume["deleteClaim"] is False for volume in pool["spec"]["storage"]["volumes"])


@pytest.mark.parametrize(("workload", "site"), _users(), ids=lambda value: getattr(value, "service", value))
def test_a_service_may_do_what_it_does(workload: Any, site: str, backbone: Resources) -> None:
    name = "-".join(filter(None, (workload.service, site)))
    rights = _rights(backbone, name)
    folds = [topic.replace("{site}", site) for topic in reads(workload)]
    for topic in folds:
        assert {"Read", "Describe"} <= rights[topic]
        assert {"Read", "Write"} <= rights[f"{topic}.dlq"]
    for topic, entry in contract().names((site,) if site else SITES):
        if workload.service in (entry.owner, *entry.writers):
            assert "Write" in rights[topic]
    # What it looks at before it starts.
    for wants in needed(contract(), workload.service, folds, site, SITES, ""):
        assert {"Describe", "DescribeConfigs"} <= rights[wants.name]
    assert "Read" in rights[REGISTER]
    suffix = f".{site}" if site else ""
    runners = {f"{workload.service}.{reactor.name}{suffix}" for reactor in workload.spec.reactors}
    assert runners <= _groups(backbone, name)


@pytest.mark.parametrize(("workload", "site"), _users(), ids=lambda value: getattr(value, "service", value))
def test_a_service_may_do_nothing_else(workload: Any, site: str, backbone: Resources) -> None:
    name = "-".join(filter(None, (workload.service, site)))
    owners = {topic: entry for topic, entry in contract().names(SITES)}
    folds = {topic.replace("{site}", site) for topic in reads(workload)}
    for topic, operations in _rights(backbone, name).items():
        if topic in owners:
            entry = owners[topic]
            assert ("Write" in operations) == (workload.service in (entry.owner, *entry.writers)), topic
            assert ("Read" in operations) == (topic in folds or workload.service == entry.owner), topic


def test_who_backs_up_may_read_everything_and_write_nothing(backbone: Resources) -> None:
    acls = backbone.named("KafkaUser", "pharmaloop-backup")["spec"]["authorization"]["acls"]
    of = {acl["resource"]["type"]: (acl["resource"], set(acl["operations"])) for acl in acls}
    topics, groups = of["topic"], of["group"]
    assert topics == (
        {"type": "topic", "name": "pharmaloop", "patternType": "prefix"},
        {"Describe", "DescribeConfigs", "Read"},
    )
    assert groups == ({"type": "group", "name": "*", "patternType": "literal"}, {"Describe"})
    names = [topic["spec"]["topicName"] for topic in backbone.of("KafkaTopic")]
    assert names
    assert all(name.startswith("pharmaloop") for name in names)


def test_users_of_a_backup_are_made_where_they_are_asked_for() -> None:
    made = documents(template(BACKBONE, sets=KAFKA_SETS[:1]))
    users = {one["metadata"]["name"] for one in made if one["kind"] == "KafkaUser"}
    assert users
    assert not users & {"pharmaloop-backup", "pharmaloop-restore"}


def test_no_site_sees_another(backbone: Resources) -> None:
    for service in ("clinical", "agent"):
        for site, other in (SITES, SITES[::-1]):
            assert not [topic for topic in _rights(backbone, f"{service}-{site}") if other in topic]
            assert not [group for group in _groups(backbone, f"{service}-{site}") if other in group]


def test_dispenses_of_all_sites_are_read_by_traceability_alone(backbone: Resources) -> None:
    private = "pharmaloop.traceability.dispense.v1"
    readers = {
        user["metadata"]["name"]
        for user in backbone.of("KafkaUser")
        if "Read"
        in _rights(backbone, user["metadata"]["name"].removeprefix("pharmaloop-")).get(private, set())
    }
    assert readers == {"pharmaloop-traceability"}


def test_loops_have_the_rights_that_they_look_for(backbone: Resources) -> None:
    """The loops do not start where one of these is missing."""
    events = [event_type(cls) for cls in {*RUN_EVENTS, *DEADLINE_EVENTS}]
    outputs, (log,) = tuple(contract().names_for(events)), contract().changelogs
    needs = Needs(CASE_TOPIC, log.name, 6, outputs, APP_ID, letters=f"{CASE_TOPIC}.dlq")
    rights = _rights(backbone, "loops")
    names = {"READ": "Read", "WRITE": "Write", "DESCRIBE_CONFIGS": "DescribeConfigs"}
    for topic, operations in needs.rights.items():
        assert {names[operation.name] for operation in operations} <= rights[topic], topic
    assert APP_ID in _groups(backbone, "loops")


def test_only_the_migration_and_a_restore_may_make_topics(backbone: Resources) -> None:
    makers = {
        user["metadata"]["name"]
        for user in backbone.of("KafkaUser")
        for acl in user["spec"]["authorization"]["acls"]
        if "Create" in acl["operations"]
    }
    assert makers == {f"pharmaloop-{MIGRATE}", "pharmaloop-restore"}
    assert {"Read", "Write"} <= _rights(backbone, MIGRATE)[REGISTER]


def test_resources_are_as_strimzi_takes_them(backbone: Resources) -> None:
    for one in backbone.all:
        assert one["apiVersion"] == "kafka.strimzi.io/v1"
        assert one["metadata"]["labels"]["strimzi.io/cluster"] == "backbone"
    pools = {pool["metadata"]["name"]: pool["spec"] for pool in backbone.of("KafkaNodePool")}
    assert {name: (p["replicas"], p["roles"]) for name, p in pools.items()} == {
        "backbone-controller": (3, ["controller"]),
        "backbone-broker": (3, ["broker"]),
    }
    for pool in pools.values():
        assert [v["kraftMetadata"] for v in pool["storage"]["volumes"]] == ["shared"]
    (kafka,) = backbone.of("Kafka")
    spec = kafka["spec"]["kafka"]
    assert spec["authorization"] == {"type": "simple"}
    assert all(listener["tls"] and "authentication" in listener for listener in spec["listeners"])
    assert spec["config"]["auto.create.topics.enable"] is False
    assert (spec["config"]["default.replication.factor"], spec["config"]["min.insync.replicas"]) == (3, 2)
    assert not {"replicas", "storage"} & set(spec), "pools hold them"
    assert set(kafka["spec"]["entityOperator"]) == {"topicOperator", "userOperator"}
    operations = {"Read", "Write", "Create", "Describe", "DescribeConfigs"}
    of_a_restore = operations | {"Delete", "AlterConfigs"}
    for user in backbone.of("KafkaUser"):
        assert user["spec"]["authentication"] == {"type": "tls"}
        for acl in user["spec"]["authorization"]["acls"]:
            assert set(acl) == {"resource", "operations"}
            assert acl["resource"]["patternType"] in ("literal", "prefix")
            restores = user["metadata"]["name"] == "pharmaloop-restore"
            assert set(acl["operations"]) <= (of_a_restore if restores else operations)


def test_an_existing_cluster_gets_topics_and_users_only() -> None:
    text = template(BACKBONE, sets=["cluster.create=false", 'users.authentication="scram-sha-512"'])
    made = Resources(documents(text))
    assert {document["kind"] for document in made.all} == {"KafkaTopic", "KafkaUser"}
    assert all("{site}" not in str(document) for document in made.all)
