"""What a pod names must be there: the names are found wherever a pod's spec may hold one."""

from typing import Any

import pytest

from deploy.cluster import references

OBJECT = dict[str, Any]


def named(kind: str, name: str, uid: str = "", owner: str = "", **more: Any) -> OBJECT:
    owners = [{"kind": "Any", "uid": owner}] if owner else []
    return {
        "kind": kind,
        "metadata": {"name": name, "uid": uid or f"{kind}/{name}", "ownerReferences": owners},
        **more,
    }


def container(**more: Any) -> OBJECT:
    return {"name": "one", "image": "any", **more}


ACCOUNT = named("ServiceAccount", "default")


def pod(spec: OBJECT) -> OBJECT:
    return named("Pod", "p", spec={"containers": [container()], **spec})


def env(**source: OBJECT) -> OBJECT:
    return {"containers": [container(env=[{"name": "WORD", "valueFrom": source}])]}


@pytest.mark.parametrize(
    ("spec", "what"),
    [
        ({"serviceAccountName": "x"}, "ServiceAccount x (serviceAccountName)"),
        ({"imagePullSecrets": [{"name": "x"}]}, "Secret x (imagePullSecrets)"),
        ({"volumes": [{"name": "v", "configMap": {"name": "x"}}]}, "ConfigMap x (volume v)"),
        ({"volumes": [{"name": "v", "secret": {"secretName": "x"}}]}, "Secret x (volume v)"),
        (
            {"volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": "x"}}]}}]},
            "Secret x (volume v)",
        ),
        (
            {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "x"}}]},
            "PersistentVolumeClaim x (volume v)",
        ),
        (env(secretKeyRef={"name": "x", "key": "k"}), "Secret x (container one, env WORD)"),
        (env(configMapKeyRef={"name": "x", "key": "k"}), "ConfigMap x (container one, env WORD)"),
        (
            {"initContainers": [container(envFrom=[{"secretRef": {"name": "x"}}])]},
            "Secret x (container one, envFrom)",
        ),
        (
            {"containers": [container(envFrom=[{"configMapRef": {"name": "x"}}])]},
            "ConfigMap x (container one, envFrom)",
        ),
    ],
)
def test_a_missing_name_is_told_with_its_place(spec: OBJECT, what: str) -> None:
    assert references.missing([ACCOUNT, pod(spec)]) == [f"Pod p names {what}, which does not exist"]


def test_what_is_brought_or_optional_is_not_told() -> None:
    spec = {
        "containers": [
            container(
                env=[
                    {"name": "A", "value": "plain"},
                    {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                    {
                        "name": "C",
                        "valueFrom": {"secretKeyRef": {"name": "no", "key": "k", "optional": True}},
                    },
                    {"name": "D", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                ],
                envFrom=[{"configMapRef": {"name": "no", "optional": True}}],
            )
        ],
        "volumes": [
            {"name": "v", "secret": {"secretName": "no", "optional": True}},
            {"name": "w", "emptyDir": {}},
            {"name": "x", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
        ],
    }
    assert references.missing([ACCOUNT, pod(spec), named("Secret", "s", data={"k": "eA=="})]) == []


def test_a_key_that_the_secret_lacks_is_told() -> None:
    items = {
        "volumes": [{"name": "v", "secret": {"secretName": "s", "items": [{"key": "tls.key", "path": "k"}]}}]
    }
    secret = named("Secret", "s", data={"tls.crt": "eA=="})
    assert references.missing([ACCOUNT, pod(items), secret]) == [
        "Pod p names Secret s with the key tls.key (volume v), which does not exist"
    ]


def test_a_name_of_another_namespace_does_not_count() -> None:
    secret = named("Secret", "s")
    secret["metadata"]["namespace"] = "elsewhere"
    found = references.missing([ACCOUNT, pod({"imagePullSecrets": [{"name": "s"}]}), secret])
    assert found == ["Pod p names Secret s (imagePullSecrets), which does not exist"]


def test_what_a_workload_makes_is_not_told_twice() -> None:
    spec = {"serviceAccountName": "x", "containers": [container()]}
    made = named("Deployment", "d", uid="1", spec={"template": {"spec": spec}})
    objects = [made, named("ReplicaSet", "r", uid="2", owner="1", spec={"template": {"spec": spec}})]
    objects.append(named("Pod", "p", owner="2", spec=spec))
    told = "names ServiceAccount x (serviceAccountName), which does not exist"
    assert references.missing(objects) == [f"Deployment d {told}"]
    # Whose maker is not among the objects speaks for itself.
    assert references.missing(objects[1:]) == [f"ReplicaSet r {told}"]


def test_a_cron_jobs_template_is_read_and_a_stateful_sets_claims_are_its_own() -> None:
    spec = {"containers": [container()], "serviceAccountName": "x"}
    cron = named("CronJob", "c", spec={"jobTemplate": {"spec": {"template": {"spec": spec}}}})
    claim = {"name": "state", "persistentVolumeClaim": {"claimName": "state"}}
    template = {"spec": {"containers": [container()], "volumes": [claim]}}
    stateful = named(
        "StatefulSet",
        "s",
        spec={"template": template, "volumeClaimTemplates": [{"metadata": {"name": "state"}}]},
    )
    assert references.missing([ACCOUNT, cron, stateful]) == [
        "CronJob c names ServiceAccount x (serviceAccountName), which does not exist"
    ]
