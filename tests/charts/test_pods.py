"""Pods: restricted, told apart, with what they need; and nothing that they need is missing."""

from __future__ import annotations

from pathlib import Path

from deploy.charts.catalogue import BY_NAME
from deploy.charts.render import EXAMPLES, UMBRELLA, documents, template
from services.kit import app, sealing
from services.loops import main as loops
from tests.charts.resources import Pod, Resources, selects


def test_pods_are_restricted(platform: Resources) -> None:
    for pod in platform.pods:
        whole, one = pod.spec["securityContext"], pod.container["securityContext"]
        assert whole["runAsNonRoot"] is True, pod.name
        assert whole["runAsUser"] > 0, pod.name
        assert whole["seccompProfile"] == {"type": "RuntimeDefault"}, pod.name
        assert one == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
        }, pod.name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod.spec), pod.name
        assert all("hostPath" not in volume for volume in pod.volumes.values()), pod.name


def test_no_pod_has_a_token_or_links_to_its_neighbours(platform: Resources) -> None:
    for pod in platform.pods:
        assert pod.spec["automountServiceAccountToken"] is False, pod.name
        assert pod.spec["enableServiceLinks"] is False, pod.name
    for account in platform.of("ServiceAccount"):
        assert account["automountServiceAccountToken"] is False, account["metadata"]["name"]


def test_each_service_has_an_account_of_its_own(platform: Resources) -> None:
    owners: dict[str, set[tuple[str, str]]] = {}
    for pod in platform.pods:
        who = (pod.labels["app.kubernetes.io/component"], pod.labels.get("pharmaloop/site", ""))
        owners.setdefault(pod.spec["serviceAccountName"], set()).add(who)
    assert all(len(who) == 1 for who in owners.values()), owners


def test_every_container_says_what_it_asks_for_and_what_it_may_take(platform: Resources) -> None:
    for pod in platform.pods:
        asked = pod.container["resources"]
        assert set(asked["requests"]) >= {"cpu", "memory"}, pod.name
        assert set(asked["limits"]) >= {"memory"}, pod.name


def test_probes_tell_the_truth(platform: Resources) -> None:
    """Ready by gRPC health, which is all that the process knows; alive by the heartbeat of its loops.

    A probe has no certificate to show: where gRPC asks for one, it asks where health alone is answered.
    """
    for pod in platform.processes:
        port = pod.ports.get("health", pod.ports["grpc"])
        assert pod.container["readinessProbe"]["grpc"] == {"port": port}, pod.name
        for kind in ("startupProbe", "livenessProbe"):
            command = pod.container[kind]["exec"]["command"]
            assert command[:4] == ["python", "-m", "services.kit.alive", "--older-than"], pod.name
            assert float(command[4]) > 0, pod.name


def test_a_process_has_time_to_come_to_its_end(platform: Resources) -> None:
    """The server, the runners, the relay, the loops, one after another, and the pause before."""
    drain = 2.0 + 2 * app._DRAIN_SECONDS + loops._LEAVE_SECONDS + 3
    for pod in platform.processes:
        assert pod.spec["terminationGracePeriodSeconds"] > drain, pod.name


def test_what_a_pod_names_is_rendered_or_is_yours_to_bring(platform: Resources) -> None:
    claims = {
        f"{volume['metadata']['name']}"
        for workload in platform.of("StatefulSet")
        for volume in workload["spec"].get("volumeClaimTemplates", [])
    }
    yours = set(platform.secrets) | {one["spec"]["secretName"] for one in platform.of("Certificate")}
    for pod in platform.pods:
        for kind, name in pod.references():
            there = yours if kind == "Secret" else platform.names(kind)
            assert name in there, f"{pod.name} names the {kind} {name}, and nobody makes it"
        named = {mount["name"] for mount in pod.container["volumeMounts"]}
        assert named <= set(pod.volumes) | claims, pod.name
        assert set(pod.volumes) <= named, f"{pod.name}: a volume that nobody mounts"


def test_no_secret_is_said_to_be_yours_that_nobody_reads(platform: Resources) -> None:
    read = {name for pod in platform.pods for kind, name in pod.references() if kind == "Secret"}
    tls = {t["secretName"] for i in platform.of("Ingress") for t in i["spec"].get("tls", [])}
    assert set(platform.secrets) <= read | tls


def test_the_chart_holds_no_secret(platform: Resources) -> None:
    assert platform.of("Secret") == []
    for pod in platform.pods:
        for name, value in pod.environment.items():
            if "PASSWORD" in name or name == "MONGODB_URI":
                assert "secretKeyRef" in value, f"{pod.name}: {name}"


def _keys(pod: Pod) -> set[str]:
    folder = "/var/lib/pharmaloop/keys/"
    return {path.removeprefix(folder) for path in pod.mounts if path.startswith(folder)}


def test_traceability_and_a_site_share_that_sites_key_and_no_other(
    three_sites: Resources, tmp_path: Path
) -> None:
    """The file is where the service looks for the key of that name."""
    keys = sealing.LocalKeys(tmp_path)
    file = {name: keys._path(name).name for name in ("traceability/exposure", *_exposures("abc"))}
    trace = _keys(three_sites.pod("pharmaloop-traceability"))
    assert trace == set(file.values())
    for letter in "abc":
        site = _keys(three_sites.pod(f"pharmaloop-clinical-hospital-{letter}"))
        assert site == {file[f"exposure/hospital-{letter}"]}
    others = [
        pod for pod in three_sites.processes if not pod.name.startswith(("pharmaloop-tr", "pharmaloop-cl"))
    ]
    assert all(not _keys(pod) for pod in others)


def _exposures(letters: str) -> list[str]:
    return [f"exposure/hospital-{letter}" for letter in letters]


def test_state_that_must_last_has_a_volume(platform: Resources) -> None:
    for pod in platform.processes:
        workload = BY_NAME[pod.labels["app.kubernetes.io/component"]]
        lasting = {
            mount["mountPath"]
            for mount in pod.container["volumeMounts"]
            if "persistentVolumeClaim" in pod.volumes.get(mount["name"], {}) or mount["name"] == "tables"
        }
        relay = pod.labels["pharmaloop/role"] == "relay"
        wanted = {"/var/lib/pharmaloop/keys"} if workload.keys and not relay else set()
        if workload.tables and pod.labels["pharmaloop/role"] in ("all", "worker"):
            wanted.add("/var/lib/pharmaloop/loops")
        assert lasting == wanted, pod.name
        assert pod.environment["PHARMALOOP_STATE_DIR"] == "/var/lib/pharmaloop"


def test_keys_outlive_the_release_and_tables_do_not(production: Resources) -> None:
    for claim in production.of("PersistentVolumeClaim"):
        assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    loops_set = production.named("StatefulSet", "pharmaloop-loops")["spec"]
    assert loops_set["persistentVolumeClaimRetentionPolicy"] == {
        "whenDeleted": "Delete",
        "whenScaled": "Delete",
    }


def test_selectors_take_their_own_pods_and_no_others(platform: Resources) -> None:
    for workload in (*platform.of("Deployment"), *platform.of("StatefulSet")):
        taken = [p.name for p in platform.pods if selects(workload["spec"]["selector"], p.labels)]
        assert taken == [workload["metadata"]["name"]]
    for budget in platform.of("PodDisruptionBudget"):
        taken = [p.name for p in platform.pods if selects(budget["spec"]["selector"], p.labels)]
        assert taken == [budget["metadata"]["name"]]


def test_calls_reach_processes_that_answer(platform: Resources) -> None:
    for service in platform.of("Service"):
        taken = [p for p in platform.pods if selects({"matchLabels": service["spec"]["selector"]}, p.labels)]
        assert len(taken) == 1, service["metadata"]["name"]
        assert taken[0].labels["pharmaloop/role"] in ("api", "all")
        for port in service["spec"]["ports"]:
            assert port["targetPort"] in taken[0].ports


def test_where_there_are_several_one_goes_at_a_time_and_they_are_spread(platform: Resources) -> None:
    budgets = platform.names("PodDisruptionBudget")
    for workload in (*platform.of("Deployment"), *platform.of("StatefulSet")):
        name = workload["metadata"]["name"]
        scaled = name in platform.names("ScaledObject")
        assert (name in budgets) == (workload["spec"]["replicas"] > 1 or scaled), name
    for budget in platform.of("PodDisruptionBudget"):
        assert budget["spec"]["maxUnavailable"] == 1
    for pod in platform.processes:
        assert [c["topologyKey"] for c in pod.spec["topologySpreadConstraints"]] == [
            "topology.kubernetes.io/zone",
            "kubernetes.io/hostname",
        ]


def test_an_image_by_digest_comes_from_the_registry_inside() -> None:
    air = Resources(documents(template(UMBRELLA, [EXAMPLES / "air-gapped.yaml"])))
    for pod in air.pods:
        image = pod.container["image"]
        assert image.startswith("registry.plant.internal:5000/mirror/pharma/pharmaloop@sha256:"), pod.name
        assert pod.spec["imagePullSecrets"] == [{"name": "registry"}], pod.name


def test_what_decides_has_the_keys_and_a_relay_has_none() -> None:
    """Commands of these two need the keys of digests, in whichever process they are decided."""
    sets = [f'services.{service}.roles="split"' for service in ("clinical", "traceability")]
    shared = 'services.clinical.persistence.accessMode="ReadWriteMany"'
    split = Resources(documents(template(UMBRELLA, [EXAMPLES / "minimal.yaml"], [*sets, shared])))
    for name, claim in (("clinical-hospital-a", {"keys"}), ("traceability", set())):
        deciding = [split.pod(f"pharmaloop-{name}-{role}") for role in ("api", "worker")]
        assert _keys(deciding[0]) == _keys(deciding[1]) != set(), name
        assert all(claim <= set(pod.volumes) for pod in deciding), name
        relay = split.pod(f"pharmaloop-{name}-relay")
        assert not _keys(relay), name
        assert "keys" not in relay.volumes, name
