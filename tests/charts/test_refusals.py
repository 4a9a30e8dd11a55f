"""What cannot be installed is refused at render: by the schema, or with field, rule and next step."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from deploy.charts.render import BACKBONE, EXAMPLES, UMBRELLA, RenderError, template

MINIMAL, PRODUCTION = EXAMPLES / "minimal.yaml", EXAMPLES / "production.yaml"
SITE: dict[str, object] = {
    "name": "hospital-a",
    "displayName": "Hospital A",
    "exposureKey": {"secretName": "exposure-hospital-a"},
}


def _sites(*sites: dict[str, object]) -> str:
    return f"sites={json.dumps(sites)}"


def refused(sets: Sequence[str], variant: str = "minimal") -> str:
    with pytest.raises(RenderError) as error:
        template(UMBRELLA, [EXAMPLES / f"{variant}.yaml"], sets)
    return str(error.value)


#: (value, what the schema says)
BAD_VALUES = [
    ("replicaCount=3", "additional properties 'replicaCount' not allowed"),
    (
        'kafka.boostrapServers="kafka:9092"',
        "at '/kafka': additional properties 'boostrapServers' not allowed",
    ),
    ('kafka.bootstrapServers="kafka"', "at '/kafka/bootstrapServers': 'kafka' does not match pattern"),
    ('kafka.bootstrapServers=["kafka:9092"]', "at '/kafka/bootstrapServers': got array, want string"),
    ('kafka.bootstrapServers="kafka:9092, other:9092"', "at '/kafka/bootstrapServers'"),
    ('kafka.securityProtocol="TLS"', "at '/kafka/securityProtocol': value must be one of 'PLAINTEXT', 'SSL'"),
    ('kafka.saslMechanism="GSSAPI"', "at '/kafka/saslMechanism': value must be one of"),
    ('grpcTls.enabled="yes"', "at '/grpcTls/enabled': got string, want boolean"),
    ('grpcTls.duration="90d"', "at '/grpcTls/duration': '90d' does not match pattern"),
    ('tracing.endpoint="collector:4317"', "at '/tracing/endpoint': 'collector:4317' does not match pattern"),
    ("tracing.ratio=2", "at '/tracing/ratio': maximum: got 2, want 1"),
    ("kafka.replicationFactor=0", "at '/kafka/replicationFactor': minimum: got 0, want 1"),
    ('kafka.minInsyncReplicas="2"', "at '/kafka/minInsyncReplicas': got string, want integer"),
    ('mongodb.uri="mongodb://user:secret@host/"', "at '/mongodb/uri': got string, want object"),
    (
        'services.laboratory={"enabled":true}',
        "at '/services': additional properties 'laboratory' not allowed",
    ),
    ("services.production.replicas=0", "at '/services/production/replicas': minimum: got 0, want 1"),
    ("services.production.replicas=1.5", "at '/services/production/replicas': got number, want integer"),
    ('services.production.roles="apart"', "at '/services/production/roles': value must be one of"),
    (
        'services.exchange.autoscaling={"enabled":true}',
        "at '/services/exchange': additional properties 'autos",
    ),
    ('services.exchange.api={"replicas":2}', "at '/services/exchange': additional properties 'api'"),
    (
        'services.alerting.settings={"ESCALATE_CRITCAL_MINUTES":3}',
        "additional properties 'ESCALATE_CRITCAL_MINUTES' not allowed",
    ),
    (
        'services.alerting.settings={"ESCALATE_CRITICAL_MINUTES":"soon"}',
        "at '/services/alerting/settings/ESCALATE_CRITICAL_MINUTES': got string, want number",
    ),
    (
        'services.agent.settings={"PROFILE":"open"}',
        "PROFILE': value must be one of 'protected', 'public-data'",
    ),
    ('services.rnd.settings={"GRPC_PORT":1}', "additional properties 'GRPC_PORT' not allowed"),
    ('services.loops.persistence.size="2GB"', "at '/services/loops/persistence/size': '2GB' does not match"),
    ('services.rnd.persistence.accessMode="ReadOnlyMany"', "persistence/accessMode': value must be one of"),
    ("services.rnd.autoscaling.minReplicas=0", "autoscaling/minReplicas': minimum: got 0, want 1"),
    (_sites({"name": "Hospital_A", "displayName": "A"}), "at '/sites/0/name': 'Hospital_A' does not match"),
    (_sites({"name": "h" * 25, "displayName": "A"}), "at '/sites/0/name': maxLength: got 25, want 24"),
    (_sites({"name": "hospital-a"}), "at '/sites/0': missing property 'displayName'"),
    (_sites({**SITE, "exposureKey": "0f3a"}), "at '/sites/0/exposureKey': got string, want object"),
    (_sites({**SITE, "key": "0f3a"}), "at '/sites/0': additional properties 'key' not allowed"),
    ('endpoints={"clinical":"host:1"}', "at '/endpoints': additional properties 'clinical' not allowed"),
    (
        'endpoints={"exchange":"https://exchange"}',
        "at '/endpoints/exchange': 'https://exchange' does not match",
    ),
    ('image.digest="sha256:12"', "at '/image/digest': 'sha256:12' does not match pattern"),
    ('image.pullPolicy="Sometimes"', "at '/image/pullPolicy': value must be one of"),
    ('image.pullSecrets=["registry"]', "at '/image/pullSecrets/0': got string, want object"),
    ("terminationGracePeriodSeconds=30", "at '/terminationGracePeriodSeconds': minimum: got 30, want 50"),
    ("probes.silentSeconds=5", "at '/probes/silentSeconds': minimum: got 5, want 30"),
    ('logLevel="TRACE"', "at '/logLevel': value must be one of"),
    (
        'networkPolicy.kafka.to=[{"cidr":"10.0.0.0/8"}]',
        "at '/networkPolicy/kafka/to/0': additional properties",
    ),
    ("networkPolicy.kafka.to=[{}]", "at '/networkPolicy/kafka/to/0': minProperties: got 0, want 1"),
    ("networkPolicy.dns.to=[]", "at '/networkPolicy/dns/to': minItems: got 0, want 1"),
    ('fullnameOverride="Pharma_Loop"', "at '/fullnameOverride': 'Pharma_Loop' does not match pattern"),
    ("networkPolicy.mongodb.ports=[70000]", "at '/networkPolicy/mongodb/ports/0': maximum: got 70,000, want"),
    ('portal.ingress.host="https://x"', "at '/portal/ingress/host': 'https://x' does not match"),
    ('monitoring.rules.portal="portal"', "at '/monitoring/rules/portal': 'portal' does not match pattern"),
    ("demo.clock.speed=0", "at '/demo/clock/speed': exclusiveMinimum: got 0, want 0"),
    ('demo.clock.anchor="today"', "at '/demo/clock/anchor': 'today' does not match pattern"),
    ('fullnameOverride="a-very-long-name-indeed"', "at '/fullnameOverride': maxLength: got 23, want 18"),
]


@pytest.mark.parametrize(("value", "said"), BAD_VALUES, ids=[value[:50] for value, _ in BAD_VALUES])
def test_a_bad_value_is_refused(value: str, said: str) -> None:
    assert said in refused([value])


KAFKA_TLS = 'kafka.securityProtocol="SASL_SSL"'
SHARED = 'services.{}.persistence.accessMode="ReadWriteMany"'
#: (values, field, part of the rule, part of the next step)
CONTRADICTIONS: list[tuple[list[str], str, str, str]] = [
    (['kafka.bootstrapServers=""'], "kafka.bootstrapServers", "no brokers are named", "give host:port"),
    ([KAFKA_TLS], "kafka.securityProtocol", "SASL_SSL needs a login", "set kafka.saslMechanism"),
    (
        ['kafka.saslMechanism="PLAIN"'],
        "kafka.credentials",
        "no effect with kafka.securityProtocol=PLAINTEXT",
        "choose",
    ),
    (['kafka.ca.secretName="ca"'], "kafka.ca", "certificates have no effect", "choose SSL or SASL_SSL"),
    (
        ['grpcTls.issuer.name="internal"'],
        "grpcTls",
        "no effect with grpcTls.enabled=false",
        "enable it, or leave them out",
    ),
    (
        ["grpcTls.enabled=true", 'grpcTls.issuer.name="internal"', 'grpcTls.caKey="root.pem"'],
        "grpcTls.certificateKey",
        "cert-manager writes tls.crt, tls.key and ca.crt",
        "leave the keys out",
    ),
    (["kafka.minInsyncReplicas=3", "kafka.replicationFactor=3"], "", "", ""),
    (
        ["kafka.minInsyncReplicas=4", "kafka.replicationFactor=3"],
        "kafka.minInsyncReplicas",
        "4 copies",
        "set it to 2 or less",
    ),
    (['mongodb.uri.secretName=""'], "mongodb.uri.secretName", "no database is named", "create a Secret"),
    ([_sites()], "sites", "services.clinical runs once for each site, and there is none", "name a site"),
    ([_sites(SITE, SITE)], "sites[1].name", 'two sites "hospital-a"', "its own name"),
    (
        [_sites({"name": "hospital-a", "displayName": "A"})],
        "sites[0].exposureKey",
        'site "hospital-a" has no key',
        "kubectl create secret generic exposure-hospital-a --from-file=key",
    ),
    (
        [_sites(SITE, {**SITE, "name": "hospital-b"})],
        "sites[1].exposureKey",
        "another site has the key exposure-hospital-a/key too",
        "one of its own",
    ),
    (
        ['exposure.masterKey.secretName="exposure-hospital-a"'],
        "exposure.masterKey",
        "could make the keys of all others",
        "one of its own",
    ),
    (
        ['exposure.masterKey.secretName=""'],
        "exposure.masterKey.secretName",
        "digest keys of runs",
        "create a Secret",
    ),
    (['services.exchange.roles="split"'], "services.exchange.roles", "cannot be split", "set it to together"),
    (['services.agent.roles="split"'], "services.agent.roles", "one process speaks for it", "together"),
    (["services.exchange.replicas=2"], "services.exchange.replicas", "agents' streams", "set it to 1"),
    (
        ["services.loops.replicas=7"],
        "services.loops.replicas",
        "7 processes share 6 partitions",
        "set it to 6 or less",
    ),
    (
        ["services.production.replicas=13", SHARED.format("production")],
        "services.production.replicas",
        "13 processes share 12 partitions",
        "set it to 12 or less",
    ),
    (
        [
            'services.loops.autoscaling={"enabled":true,"maxReplicas":9}',
            'autoscaling.prometheusServer="http://p"',
        ],
        "services.loops.autoscaling.maxReplicas",
        "9 processes share 6 partitions",
        "set it to 6 or less",
    ),
    (
        ['services.loops.autoscaling={"enabled":true,"minReplicas":5,"maxReplicas":3}'],
        "services.loops.autoscaling.minReplicas",
        "5 is more than maxReplicas, 3",
        "lower it",
    ),
    (
        ["services.loops.autoscaling.enabled=true"],
        "services.loops.autoscaling",
        "lag is read from Prometheus",
        "autoscaling.prometheusServer",
    ),
    (
        ["services.rnd.replicas=2"],
        "services.rnd.persistence.accessMode",
        "2 pods of rnd open values with the same keys",
        "ReadWriteMany",
    ),
    (
        ['services.production.roles="split"'],
        "services.production.persistence.accessMode",
        "3 pods of production",
        "ReadWriteMany",
    ),
    (
        [
            'services.clinical.persistence.existingClaim="keys"',
            _sites(SITE, {**SITE, "name": "hospital-b", "exposureKey": {"secretName": "b"}}),
        ],
        "services.clinical.persistence.existingClaim",
        "the keys of 2 sites",
        "leave it out",
    ),
    (
        ["services.exchange.enabled=false"],
        "services.agent",
        "it calls exchange, which is not deployed here",
        "say where it listens in endpoints.exchange",
    ),
    (
        ['endpoints={"exchange":"exchange.example.org:443"}'],
        "endpoints.exchange",
        "this release deploys exchange itself",
        "set services.exchange.enabled=false",
    ),
    (
        ['image.tag="1"', f'image.digest="sha256:{"0" * 64}"'],
        "image.tag",
        "a digest is given too",
        "leave one of them out",
    ),
    (["portal.ingress.enabled=true"], "portal.ingress.host", "no name is given", "give one"),
    (
        ["portal.ingress.enabled=true", 'portal.ingress.host="p.example.org"'],
        "portal.ingress.tlsSecret",
        "would travel in the clear",
        "portal.ingress.plain=true",
    ),
    (
        ['portal.ingress={"enabled":true,"host":"p.example.org","plain":true,"tlsSecret":"t"}'],
        "portal.ingress.plain",
        "a certificate is named too",
        "choose one",
    ),
    (
        ["portal.enabled=false", "portal.ingress.enabled=true"],
        "portal.ingress.enabled",
        "there is no portal to lead to",
        "set portal.enabled=true",
    ),
    (
        ['portal.ingress={"enabled":true,"host":"p.example.org","plain":true}'],
        "networkPolicy.ingressController",
        "nobody may reach it",
        "name the controller's pods",
    ),
    (["networkPolicy.kafka.to=[]"], "networkPolicy.kafka.to", "everything is denied", "name its pods"),
    (["networkPolicy.mongodb.to=[]"], "networkPolicy.mongodb.to", "everything is denied", "name its pods"),
    (
        ['kafka.bootstrapServers="kafka.kafka:9092,kafka.kafka:9096"'],
        "networkPolicy.kafka.ports",
        "kafka.bootstrapServers names kafka.kafka:9096, and nobody may reach that port",
        "add it to",
    ),
    (
        [_sites({**SITE, "kafka": {"bootstrapServers": "kafka.kafka:19092"}})],
        "networkPolicy.kafka.ports",
        "sites[0].kafka.bootstrapServers names kafka.kafka:19092",
        "add it to",
    ),
    (
        ["services.exchange.enabled=false", 'endpoints={"exchange":"exchange.example.org:443"}'],
        "networkPolicy.elsewhere",
        "nobody may reach them",
        "name their addresses",
    ),
    (
        ["monitoring.podMonitor.enabled=true"],
        "networkPolicy.monitoring",
        "metrics are to be collected, and nobody may reach them",
        "name the collector's pods",
    ),
    (
        ['tracing.endpoint="http://collector:4317"'],
        "networkPolicy.traces",
        "nobody may reach their collector",
        "name its pods or addresses",
    ),
    (
        ["monitoring.dashboards.enabled=true", 'monitoring.rules.portal="https://p.example.org"'],
        "monitoring.dashboards.enabled",
        "nobody says where these are",
        "give monitoring.rules.portal and monitoring.rules.runbooks",
    ),
    (["demo.enabled=true"], "demo.clock.anchor", "must never jump", "give the present moment"),
    (
        ["demo.enabled=true", "services.rnd.enabled=false"],
        "demo.enabled",
        "services.rnd is off",
        "enable it, or leave the demo off",
    ),
]


@pytest.mark.parametrize(
    ("sets", "field", "rule", "step"),
    CONTRADICTIONS,
    ids=[f"{number}-{case[1]}" for number, case in enumerate(CONTRADICTIONS)],
)
def test_values_that_contradict_each_other_are_refused(
    sets: list[str], field: str, rule: str, step: str
) -> None:
    if not field:  # the border: as many copies in step as there are
        template(UMBRELLA, [MINIMAL], sets)
        return
    said = refused(sets)
    (line,) = [line for line in said.splitlines() if line.startswith(f"  - {field}") and rule in line]
    assert step in line


def test_every_trouble_is_told_at_once() -> None:
    with pytest.raises(RenderError) as error:
        template(UMBRELLA)
    said = str(error.value)
    for field in (
        "kafka.bootstrapServers",
        "mongodb.uri.secretName",
        "sites",
        "exposure.masterKey.secretName",
    ):
        assert f"  - {field}:" in said


def test_nothing_enabled_is_refused() -> None:
    off = [f"services.{service}.enabled=false" for service in ("production", "alerting")]
    assert "services: none is enabled" in refused(off, "two-services")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("cluster.brokers.replicas=2", "replicationFactor: 3 copies need as many brokers"),
        ("cluster.controllers.replicas=2", "2 controllers stand no more losses than 1; give an odd number"),
        ("minInsyncReplicas=4", "minInsyncReplicas: 4 copies cannot be in step"),
        ('sites=["a","a"]', "sites: a site is named twice"),
        ('sites=["A"]', "at '/sites/0': 'A' does not match pattern"),
        ('users.authentication="none"', "at '/users/authentication': value must be one of"),
        ("partitions=3", "additional properties 'partitions' not allowed"),
    ],
)
def test_a_backbone_that_could_not_work_is_refused(value: str, said: str) -> None:
    with pytest.raises(RenderError) as error:
        template(BACKBONE, sets=[value])
    assert said in str(error.value)
