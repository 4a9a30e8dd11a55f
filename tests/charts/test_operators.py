"""Resources of operators: KEDA, the Prometheus operator, cert-manager; and what scales how far."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from deploy.charts.catalogue import BY_NAME, WORKLOADS, cap, reads
from deploy.charts.generate import rules
from deploy.charts.render import EXAMPLES, UMBRELLA, documents, template
from deploy.grafana.boards import BOARDS
from deploy.grafana.build import texts
from deploy.watch import tools
from services.kit.contracts import contract
from services.kit.metrics import CATALOGUE
from tests.charts.resources import Pod, Resources, selects


def test_a_scaler_counts_workers_on_time_lag_and_never_beyond_the_partitions(production: Resources) -> None:
    found = {s["metadata"]["name"]: s["spec"] for s in production.of("ScaledObject")}
    assert set(found) == {"pharmaloop-production-worker", "pharmaloop-traceability"}
    for name, spec in found.items():
        pod = production.pod(name)
        assert spec["scaleTargetRef"] == {"kind": pod.owner["kind"], "name": name}
        assert (
            1
            <= spec["minReplicaCount"]
            <= spec["maxReplicaCount"]
            <= cap(pod.labels["app.kubernetes.io/component"])
        )
        (trigger,) = spec["triggers"]
        metadata = trigger["metadata"]
        assert (trigger["type"], trigger["metricType"]) == ("prometheus", "Value")
        assert metadata["serverAddress"] == "http://prometheus.monitoring:9090"
        assert all(isinstance(value, str) for value in metadata.values()), "KEDA takes strings alone"
        service = pod.labels["app.kubernetes.io/component"]
        assert f'namespace="pharma",service="{service}"' in metadata["query"]


def test_the_scaler_of_a_site_looks_at_that_site() -> None:
    sets = [
        'services.clinical.autoscaling={"enabled":true,"maxReplicas":3}',
        'services.clinical.persistence.accessMode="ReadWriteMany"',
        'autoscaling.prometheusServer="http://prometheus:9090"',
    ]
    sited = Resources(documents(template(UMBRELLA, [EXAMPLES / "three-sites.yaml"], sets)))
    for site in ("hospital-a", "hospital-b", "hospital-c"):
        spec = sited.named("ScaledObject", f"pharmaloop-clinical-{site}")["spec"]
        query = spec["triggers"][0]["metadata"]["query"]
        assert query.count(f'namespace="pharma",service="clinical",site="{site}"') == 2


def test_a_scaler_asks_for_metrics_that_there_are(production: Resources) -> None:
    known = {metric.name: metric.labels for metric in CATALOGUE}
    for scaler in production.of("ScaledObject"):
        query = scaler["spec"]["triggers"][0]["metadata"]["query"]
        named = re.findall(r"pharmaloop_\w+", query)
        assert len(named) == 2
        assert all("runner" in known[name] for name in named)


def test_where_nothing_is_taken_nothing_is_added(production: Resources) -> None:
    """A poison message holds its partition up for any number of workers: the pace must be above 0."""
    query = production.of("ScaledObject")[0]["spec"]["triggers"][0]["metadata"]["query"]
    assert re.search(
        r"\(sum by \(runner\) \(rate\(pharmaloop_runner_records_total\{.*?\}\[5m\]\)\) > 0\)", query
    )


def test_with_a_scaler_a_first_installation_begins_with_the_fewest(production: Resources) -> None:
    assert production.named("StatefulSet", "pharmaloop-production-worker")["spec"]["replicas"] == 2


def test_caps_are_partitions_of_what_is_read() -> None:
    partitions = {topic.name: topic.partitions for topic in contract().topics}
    for workload in WORKLOADS:
        assert cap(workload.service) == max(partitions[name] for name in reads(workload))
    assert cap("production") == 12, "readings have more partitions than the rest"


@pytest.mark.parametrize("service", [w.service for w in WORKLOADS if w.alone])
def test_who_must_be_alone_is_one_everywhere(
    service: str, production: Resources, three_sites: Resources
) -> None:
    for resources in (production, three_sites):
        for pod in resources.processes:
            if pod.labels["app.kubernetes.io/component"] == service:
                assert pod.owner["spec"]["replicas"] == 1
    assert BY_NAME[service].alone


def test_split_roles_are_one_service(production: Resources) -> None:
    roles = {p.name: p.labels["pharmaloop/role"] for p in production.processes if "-production-" in p.name}
    assert roles == {
        "pharmaloop-production-api": "api",
        "pharmaloop-production-worker": "worker",
        "pharmaloop-production-relay": "relay",
    }
    for name, role in roles.items():
        pod = production.pod(name)
        assert pod.command[-2:] == ["--role", role]
        if role == "relay":
            assert "keys" not in pod.volumes, "it moves what is sealed already"
            continue
        assert pod.volumes["keys"]["persistentVolumeClaim"]["claimName"] == "pharmaloop-production-keys"
    kinds = {name: production.pod(name).owner["kind"] for name in roles}
    assert kinds["pharmaloop-production-worker"] == "StatefulSet"
    assert kinds["pharmaloop-production-api"] == kinds["pharmaloop-production-relay"] == "Deployment"


def test_metrics_of_every_process_are_collected(production: Resources) -> None:
    (monitor,) = production.of("PodMonitor")
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert monitor["spec"]["jobLabel"] == "app.kubernetes.io/part-of", "the job is pharmaloop, as rules say"
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["honorLabels"] is True, "a process says best which service it is"
    labels = {rule["targetLabel"]: rule["sourceLabels"] for rule in endpoint["relabelings"]}
    assert labels == {
        "service": ["__meta_kubernetes_pod_label_app_kubernetes_io_component"],
        "site": ["__meta_kubernetes_pod_label_pharmaloop_site"],
        "role": ["__meta_kubernetes_pod_label_pharmaloop_role"],
    }
    for pod in production.processes:
        assert selects(monitor["spec"]["selector"], pod.labels), pod.name
        assert endpoint["port"] in pod.ports, pod.name


def test_every_rule_is_there_and_its_links_lead_somewhere(production: Resources) -> None:
    """Word for word what is tested under tests/observability, but for the addresses before the links."""
    rendered = {rule["metadata"]["name"]: rule["spec"] for rule in production.of("PrometheusRule")}
    del rendered["pharmaloop-workloads"]
    assert len(rendered) == len(rules())
    for name, text in rules().items():
        wanted = yaml.safe_load(text)
        for rule in (rule for group in wanted["groups"] for rule in group["rules"]):
            if links := rule.get("annotations"):
                links["portal"] = f"https://pharmaloop.example.org{links['portal']}"
                links["runbook_url"] = f"https://wiki.example.org/pharmaloop/{links['runbook_url']}"
        assert rendered[f"pharmaloop-{name.removesuffix('.yaml').replace('.', '-')}"] == wanted
    for one in production.of("PrometheusRule"):
        assert one["metadata"]["labels"]["release"] == "prometheus"


@pytest.mark.parametrize("end", ["", "/"])
def test_addresses_before_links_may_end_with_a_slash(end: str) -> None:
    sets = [
        f'monitoring.rules={{"enabled":true,"portal":"https://p{end}","runbooks":"https://w/here{end}"}}',
        "monitoring.dashboards.enabled=true",
    ]
    found = Resources(documents(template(UMBRELLA, [EXAMPLES / "minimal.yaml"], sets)))
    groups = [group for rule in found.of("PrometheusRule") for group in rule["spec"]["groups"]]
    links = [rule["annotations"] for group in groups for rule in group["rules"] if "annotations" in rule]
    assert all(re.fullmatch(r"https://w/here/docs/runbooks/\w+\.md", one["runbook_url"]) for one in links)
    assert all(re.match(r"https://p/\w", one["portal"]) for one in links)
    (loops,) = found.named("ConfigMap", "pharmaloop-dashboard-loops")["data"].values()
    constants = {one["name"]: one["query"] for one in json.loads(loops)["templating"]["list"]}
    assert (constants["portal"], constants["docs"]) == ("https://p", "https://w/here")


def test_every_dashboard_is_there_for_grafanas_sidecar(production: Resources) -> None:
    links = ("https://pharmaloop.example.org", "https://wiki.example.org/pharmaloop")
    wanted = {f"{uid}.json": json.loads(text) for uid, text in texts(BOARDS, *links).items()}
    maps = [one for one in production.of("ConfigMap") if "-dashboard-" in one["metadata"]["name"]]
    assert all(one["metadata"]["labels"]["grafana_dashboard"] == "1" for one in maps)
    assert all(len(json.dumps(one)) < 1_000_000 for one in maps), "a ConfigMap holds no more"
    assert {name: json.loads(text) for one in maps for name, text in one["data"].items()} == wanted


def test_every_workload_is_missed_when_nothing_of_it_is_left(production: Resources, tmp_path: Path) -> None:
    """A pod that cannot start is no target: no series of it is there that could be 0."""
    spec = production.named("PrometheusRule", "pharmaloop-workloads")["spec"]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(spec))

    def up(pod: Pod, value: str) -> dict[str, str]:
        told = {"job": "pharmaloop", "namespace": "pharma", "instance": pod.name}
        for label, key in (("service", "app.kubernetes.io/component"), ("site", "pharmaloop/site")):
            told |= {label: pod.labels[key]} if key in pod.labels else {}
        listed = ",".join(f'{n}="{v}"' for n, v in {**told, "role": pod.labels["pharmaloop/role"]}.items())
        return {"series": f"up{{{listed}}}", "values": value}

    pods = [pod for pod in production.processes if pod.labels["app.kubernetes.io/component"] != "portal"]
    (gone,) = (pod for pod in pods if pod.name == "pharmaloop-clinical-hospital-b")
    named = 'ALERTS{alertname="ServiceGone",alertstate="firing",severity="page"'
    asked = {f"count({named}}})": 1, f'count({named},service="clinical",site="hospital-b"}})': 1}
    test = {
        "interval": "15s",
        # One is down and a target still: that is told by the rule that every installation has.
        "input_series": [up(pod, "0x40" if pod is pods[0] else "1x40") for pod in pods if pod is not gone],
        "promql_expr_test": [
            {"expr": expr, "eval_time": "5m", "exp_samples": [{"labels": "{}", "value": value}]}
            for expr, value in asked.items()
        ],
    }
    tests = {"rule_files": ["rules.yaml"], "evaluation_interval": "15s", "tests": [test]}
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(tests))
    command = [tools.need("promtool"), "test", "rules", str(tmp_path / "tests.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    links = {
        (r["annotations"]["runbook_url"], r["annotations"]["portal"]) for r in spec["groups"][0]["rules"]
    }
    (link,) = links
    assert link[0] == "https://wiki.example.org/pharmaloop/docs/runbooks/ServiceGone.md"
    assert link[1] == "https://pharmaloop.example.org/status"


def test_prometheus_takes_the_rendered_rules(production: Resources, tmp_path: Path) -> None:
    files = []
    for rule in production.of("PrometheusRule"):
        files.append(tmp_path / f"{rule['metadata']['name']}.yaml")
        files[-1].write_text(yaml.safe_dump(rule["spec"]))
    done = subprocess.run(
        [tools.need("promtool"), "check", "rules", *files], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("SUCCESS") == len(files)


def test_the_portals_certificate_is_the_one_that_its_ingress_shows(production: Resources) -> None:
    certificate, (ingress,) = production.named("Certificate", "pharmaloop-portal"), production.of("Ingress")
    assert certificate["apiVersion"] == "cert-manager.io/v1"
    spec = certificate["spec"]
    assert spec["issuerRef"] == {"name": "internal", "kind": "ClusterIssuer", "group": "cert-manager.io"}
    assert [{"hosts": spec["dnsNames"], "secretName": spec["secretName"]}] == ingress["spec"]["tls"]
    assert "portal-tls" not in production.secrets, "cert-manager makes it"


def test_the_migration_runs_before_everything_and_again(platform: Resources) -> None:
    notes = platform.named("Job", "pharmaloop-migrate")["metadata"]["annotations"]
    assert notes["helm.sh/hook"] == "pre-install,pre-upgrade,pre-rollback"
    assert "before-hook-creation" in notes["helm.sh/hook-delete-policy"]
    account = platform.named("ServiceAccount", "pharmaloop-migrate")["metadata"]["annotations"]
    assert int(account["helm.sh/hook-weight"]) < int(notes["helm.sh/hook-weight"])


def test_a_demo_has_one_clock_and_a_world(text_of: object) -> None:
    sets = ["demo.enabled=true", 'demo.clock.anchor="2026-11-27T09:00:00+00:00"']
    demo = Resources(documents(template(UMBRELLA, [EXAMPLES / "minimal.yaml"], sets)))
    clock = json.loads(demo.named("ConfigMap", "pharmaloop-clock")["data"]["clock.json"])
    assert clock == {
        "anchor": "2026-11-27T09:00:00+00:00",
        "wall_anchor": "2026-11-27T09:00:00+00:00",
        "speed": 600,
    }
    told = [pod for pod in demo.pods if "/var/lib/pharmaloop/clock.json" in pod.mounts]
    assert {pod.name for pod in told} == {
        *(pod.name for pod in demo.processes),
        "pharmaloop-portal",
        "pharmaloop-world",
    }
    assert demo.pod("pharmaloop-world").command[:3] == ["python", "-m", "services.world.main"]


def test_without_a_demo_there_is_no_world_and_time_is_the_walls(platform: Resources) -> None:
    assert all(not pod.name.endswith("-world") for pod in platform.pods)
    assert all("/var/lib/pharmaloop/clock.json" not in pod.mounts for pod in platform.pods)


def test_a_hospital_alone_in_its_own_cluster() -> None:
    """Its services run there, and call the exchange of the centre."""
    off = [
        f"services.{service}.enabled=false"
        for service in ("production", "traceability", "alerting", "rnd", "loops", "exchange", "evaluator")
    ]
    # The topics belong to the centre's release: this one's migration would be refused.
    there = ['endpoints={"exchange":"exchange.example.org:8443"}', "portal.enabled=false"]
    there.append("migration.enabled=false")
    there.append('networkPolicy.elsewhere=[{"ipBlock":{"cidr":"192.0.2.0/24"}}]')
    alone = Resources(documents(template(UMBRELLA, [EXAMPLES / "minimal.yaml"], [*off, *there])))
    assert {pod.name for pod in alone.processes} == {
        "pharmaloop-clinical-hospital-a",
        "pharmaloop-agent-hospital-a",
    }
    assert not alone.of("Job")
    told = alone.pod("pharmaloop-agent-hospital-a").environment
    assert told["PHARMALOOP_AGENT_EXCHANGE"] == "exchange.example.org:8443"
    policy = alone.named("NetworkPolicy", "pharmaloop-agent-hospital-a")["spec"]["egress"]
    assert {
        "to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}],
        "ports": [{"protocol": "TCP", "port": 8443}],
    } in policy
    (out,) = [
        r for r in alone.named("NetworkPolicy", "pharmaloop-callers")["spec"]["egress"] if "ipBlock" in str(r)
    ]
    assert out["ports"] == [{"protocol": "TCP", "port": 8443}]
