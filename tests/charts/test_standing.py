"""What stands in the cluster and does not go with the values is refused before anything is changed."""

from __future__ import annotations

import pytest

from deploy.charts.render import EXAMPLES, UMBRELLA, Document, RenderError, documents
from deploy.charts.render import template as without_a_cluster
from tests.charts import standing
from tests.charts.resources import Resources

MINIMAL, OWN, PRODUCTION = (EXAMPLES / f"{name}.yaml" for name in ("minimal", "own-engines", "production"))
KEY = b"0123456789abcdef" * 2
SEVERAL = [
    "services.production.replicas=2",
    'services.production.persistence={"accessMode":"ReadWriteMany","storageClass":"shared"}',
]


def refused(there: list[Document], sets: list[str], values: str = "minimal") -> list[str]:
    """The troubles that are told, one a line."""
    with pytest.raises(RenderError) as error:
        standing.template(there, [EXAMPLES / f"{values}.yaml"], sets)
    return [line[4:] for line in str(error.value).splitlines() if line.startswith("  - ")]


def claim(
    name: str, access: str = "ReadWriteOnce", storage_class: str = "standard", size: str = "1Gi"
) -> Document:
    """A claim as the server keeps it: with the class that it was given."""
    spec = {
        "accessModes": [access],
        "storageClassName": storage_class,
        "resources": {"requests": {"storage": size}},
    }
    metadata = {"name": f"pharmaloop-{name}-keys"}
    return standing.owned(
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}
    )


def made(values: str) -> list[Document]:
    """What an installation of that variant leaves standing, as far as a later one looks at it."""
    kinds = ("PersistentVolumeClaim", "StatefulSet", "ConfigMap")
    rendered = documents(without_a_cluster(UMBRELLA, [EXAMPLES / f"{values}.yaml"]))
    for one in rendered:
        if one["kind"] == "PersistentVolumeClaim":
            one["spec"].setdefault("storageClassName", "standard")
    return [standing.owned(one) for one in rendered if one["kind"] in kinds]


@pytest.mark.parametrize("values", ["minimal", "production", "three-sites"])
def test_an_upgrade_with_the_same_values_changes_no_volume(values: str) -> None:
    again = documents(standing.template(made(values), [EXAMPLES / f"{values}.yaml"]))
    first = documents(without_a_cluster(UMBRELLA, [EXAMPLES / f"{values}.yaml"]))
    claims = [
        {one["metadata"]["name"]: one["spec"] for one in rendered if one["kind"] == "PersistentVolumeClaim"}
        for rendered in (first, again)
    ]
    assert claims[0]
    assert claims[0] == claims[1], "what the cluster added is not taken up: a rollback could not leave it"


def test_one_pod_does_not_become_several_on_a_claim_for_one() -> None:
    (line,) = [
        line for line in refused([claim("production")], SEVERAL) if "accessMode" in line.partition(":")[0]
    ]
    assert line.startswith("services.production.persistence.accessMode: the claim pharmaloop-production-keys")
    assert "a claim cannot be changed" in line
    assert "leave it at ReadWriteOnce with one pod" in line
    assert "copy the keys into it before you upgrade" in line


@pytest.mark.parametrize("service", ["rnd", "clinical"])
def test_so_it_is_for_every_service_with_keys(service: str) -> None:
    name = "clinical-hospital-a" if service == "clinical" else service
    sets = [
        f'services.{service}.roles="split"',
        f'services.{service}.persistence.accessMode="ReadWriteMany"',
    ]
    (line,) = refused([claim(name)], sets)
    assert f"the claim pharmaloop-{name}-keys was made for one pod" in line


def test_several_pods_are_taken_where_the_claim_is_for_several() -> None:
    there = [claim("production", "ReadWriteMany", "shared")]
    whole = Resources(documents(standing.template(there, [MINIMAL], SEVERAL)))
    assert whole.named("StatefulSet", "pharmaloop-production")["spec"]["replicas"] == 2


def test_a_claim_of_ones_own_is_the_way_out() -> None:
    sets = [*SEVERAL, 'services.production.persistence.existingClaim="keys-for-many"']
    whole = Resources(documents(standing.template([claim("production")], [MINIMAL], sets)))
    volumes = whole.pod("pharmaloop-production").volumes
    assert volumes["keys"]["persistentVolumeClaim"]["claimName"] == "keys-for-many"


@pytest.mark.parametrize(
    ("there", "sets", "said", "step"),
    [
        (
            claim("rnd", "ReadWriteMany"),
            [],
            "services.rnd.persistence.accessMode: the claim pharmaloop-rnd-keys was made with ReadWriteMany",
            "set it to ReadWriteMany",
        ),
        (
            claim("rnd"),
            ['services.rnd.persistence.storageClass="fast"'],
            "services.rnd.persistence.storageClass: the claim pharmaloop-rnd-keys is of the class standard",
            "set it to standard",
        ),
        (
            claim("rnd", size="5Gi"),
            ['services.rnd.persistence.size="2048Mi"'],
            "services.rnd.persistence.size: the claim pharmaloop-rnd-keys has 5Gi, and a claim never shrinks",
            "set it to 5Gi or more",
        ),
    ],
    ids=["access", "class", "size"],
)
def test_what_a_claim_cannot_become_is_refused(
    there: Document, sets: list[str], said: str, step: str
) -> None:
    (line,) = refused([there], sets)
    assert line.startswith(said)
    assert line.endswith(step)


@pytest.mark.parametrize("asked_for", [True, False])
def test_a_class_that_was_asked_for_is_to_be_named_again(asked_for: bool) -> None:
    """Helm would take it away, which a claim does not allow; a default of the cluster is nobody's to name."""
    there = claim("rnd", storage_class="local")
    spec: Document = {"f:storageClassName": {}} if asked_for else {"f:accessModes": {}}
    applied = {"manager": "helm", "operation": "Apply", "fieldsV1": {"f:spec": spec}}
    added = {"manager": "server", "operation": "Update", "fieldsV1": {"f:spec": {"f:storageClassName": {}}}}
    there["metadata"]["managedFields"] = [applied, added]
    if not asked_for:
        assert standing.template([there], [MINIMAL])
        return
    (line,) = refused([there], [])
    assert line.startswith(
        "services.rnd.persistence.storageClass: the claim pharmaloop-rnd-keys was made with"
    )
    assert line.endswith("set it to local")


@pytest.mark.parametrize("size", ["1Gi", "1024Mi", "2Gi"])
def test_a_claim_may_grow(size: str) -> None:
    assert standing.template([claim("rnd")], [MINIMAL], [f'services.rnd.persistence.size="{size}"'])


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("size", "4Gi", "were made with 2Gi, and it cannot change them; set it to 2Gi, or run: "),
        ("storageClass", "fast", 'were made with the class "", and it cannot change them; set it to "", or'),
    ],
)
def test_volumes_of_a_stateful_set_stay_as_they_were_made(key: str, value: str, said: str) -> None:
    (line,) = refused(made("minimal"), [f'services.loops.persistence.{key}="{value}"'])
    assert line.startswith(
        f"services.loops.persistence.{key}: the volumes of the StatefulSet pharmaloop-loops"
    )
    assert said in line
    assert "kubectl -n pharma delete statefulset pharmaloop-loops, and upgrade again" in line


def test_a_size_that_is_written_otherwise_is_the_same() -> None:
    assert standing.template(made("minimal"), [MINIMAL], ['services.loops.persistence.size="2048Mi"'])


def test_a_second_release_in_one_namespace_is_refused() -> None:
    (there,) = (one for one in made("two-services") if one["metadata"]["name"] == "pharmaloop-installation")
    (line,) = refused([standing.owned(there, "another")], [])
    assert line.startswith('namespace pharma: the release "another" has an installation here')
    assert line.endswith("choose another namespace, Kafka and MongoDB")


def test_an_installation_keeps_its_name() -> None:
    """Else its volumes with keys would be others, and empty."""
    (line,) = refused(made("minimal"), ['fullnameOverride="loops"'])
    assert line.startswith("fullnameOverride: what is installed here is called pharmaloop")
    assert line.endswith("set it to pharmaloop")


# -- Secrets ------------------------------------------------------------------


def brought() -> list[Document]:
    """A namespace with all Secrets of own-engines.yaml."""
    keys = [standing.secret(f"exposure-{name}", key=KEY) for name in ("master", "hospital-a", "hospital-b")]
    return [
        standing.ACCOUNT,
        *keys,
        standing.secret("kafka", username=b"pharmaloop", password=b"secret"),
        standing.secret("kafka-ca", ca_crt=b"PEM\n"),
        standing.secret("mongodb", uri=b"mongodb://host/?replicaSet=rs0"),
        standing.secret("mongodb-ca", ca_crt=b"PEM\n"),
    ]


def without(name: str) -> list[Document]:
    return [one for one in brought() if one["metadata"]["name"] != name]


def test_secrets_that_are_there_are_taken() -> None:
    assert standing.template(brought(), [OWN])


def test_a_missing_secret_is_refused_with_what_it_holds() -> None:
    (line,) = refused(without("exposure-hospital-b"), [], "own-engines")
    assert line == (
        "Secret exposure-hospital-b: it is not in the namespace pharma, and pods would wait for it; "
        "create it with key: 32 random bytes, the key exposure/hospital-b"
    )


def test_all_that_are_missing_are_told_at_once() -> None:
    told = refused([standing.ACCOUNT], [], "production")
    rendered = Resources(documents(without_a_cluster(UMBRELLA, [PRODUCTION])))
    assert {line.split()[1].rstrip(":") for line in told} == set(rendered.secrets)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            standing.secret("kafka", username=b"pharmaloop"),
            "Secret kafka: it has no password, or that is empty",
        ),
        (standing.secret("mongodb", uri=b""), "Secret mongodb: it has no uri, or that is empty"),
        (
            standing.secret("mongodb", uri=b"mongodb://host/\n"),
            "Secret mongodb: uri ends with a line break",
        ),
        (
            standing.secret("kafka", username=b"pharmaloop", password=b"secret\n"),
            "Secret kafka: password ends with a line break",
        ),
        (
            standing.secret("exposure-master", key=b"0f" * 32),
            "Secret exposure-master: key has 64 bytes, and a key has 32",
        ),
    ],
    ids=["no key", "empty", "line break in uri", "line break in password", "key in hex"],
)
def test_a_secret_that_does_not_do_is_refused(wrong: Document, said: str) -> None:
    (line,) = refused([*without(wrong["metadata"]["name"]), wrong], [], "own-engines")
    assert line.startswith(said)
    assert "0f0f" not in line
    assert "mongodb://" not in line


def test_where_there_is_no_cluster_nothing_is_missing() -> None:
    assert without_a_cluster(UMBRELLA, [OWN])
