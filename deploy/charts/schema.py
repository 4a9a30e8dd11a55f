"""The schema of the chart's values: closed at every level, and the source of the table in its README.

Settings of services come from the classes that read them, so that a value which
no service knows is refused at render.
"""

from __future__ import annotations

from typing import Any

from deploy.charts.catalogue import WORKLOADS, Workload, own_settings
from services.kit.log import LEVELS
from services.world.sizes import SIZES

Schema = dict[str, Any]
SITE_NAME = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"
#: A site's name stands in names of resources, which have 52 characters at most.
SITE_CHARACTERS = 24
_ADDRESS = r"[A-Za-z0-9._-]+:[0-9]{1,5}"
#: Longer than a process takes to come to its end (a test compares).
LEAST_GRACE = 50
_MOST = 64
_LINK = r"^(https?://[^\s]+)?$"
#: As PlatformSettings.otlp_endpoint says it.
_COLLECTOR = r"^(https?://[^\s/:]+:[0-9]+)?$"


def text(description: str, **more: Any) -> Schema:
    return {"type": "string", "description": description, **more}


def whole(description: str, least: int, most: int | None = None) -> Schema:
    return {
        "type": "integer",
        "minimum": least,
        **({} if most is None else {"maximum": most}),
        "description": description,
    }


def switch(description: str) -> Schema:
    return {"type": "boolean", "description": description}


def table(description: str, properties: dict[str, Schema], required: tuple[str, ...] = ()) -> Schema:
    """An object that has these properties and no others."""
    return {
        "type": "object",
        "additionalProperties": False,
        **({"required": list(required)} if required else {}),
        "description": description,
        "properties": properties,
    }


def free(description: str) -> Schema:
    """An object of Kubernetes, which Kubernetes judges."""
    return {"type": "object", "description": description}


def words(description: str) -> Schema:
    return {"type": "object", "additionalProperties": {"type": "string"}, "description": description}


def rows(description: str, items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items, "description": description, **more}


def secret(description: str, keys: dict[str, str], *, per_service: bool = False) -> Schema:
    """A Secret that the user brings: its name, and under which keys what lies in it."""
    each = {"perService": switch("one Secret for each service, named secretName-SERVICE (and -SITE)")}
    return table(
        description,
        {
            "secretName": text("name of the Secret"),
            **(each if per_service else {}),
            **{key: text(what) for key, what in keys.items()},
        },
    )


def resources(description: str) -> Schema:
    amounts = {"type": "object", "additionalProperties": {"type": ["string", "number"]}}
    return {
        "type": "object",
        "additionalProperties": False,
        "description": description,
        "properties": {"requests": amounts, "limits": amounts},
    }


def peers(description: str, **more: Any) -> Schema:
    peer = table(
        "a peer of a network policy",
        {
            "podSelector": free("its labels"),
            "namespaceSelector": free("its namespace's"),
            "ipBlock": free("addresses"),
        },
    )
    return rows(description, {**peer, "minProperties": 1}, **more)


def _image() -> Schema:
    pull = table("a reference", {"name": text("name of the Secret", minLength=1)}, ("name",))
    return table(
        "The image of all services.",
        {
            "registry": text("host (and path) of the registry; empty: the cluster's default"),
            "repository": text("repository in the registry", minLength=1),
            "tag": text("tag; empty: the chart's appVersion"),
            "digest": text("digest instead of a tag", pattern=r"^(sha256:[0-9a-f]{64})?$"),
            "pullPolicy": text("when to pull", enum=["IfNotPresent", "Always", "Never"]),
            "pullSecrets": rows("Secrets for the registry", pull),
        },
    )


def _kafka() -> Schema:
    return table(
        "The backbone.",
        {
            "bootstrapServers": text(
                "brokers, host:port, several with commas", pattern=rf"^({_ADDRESS}(,{_ADDRESS})*)?$"
            ),
            "securityProtocol": text(
                "how clients connect", enum=["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
            ),
            "saslMechanism": text("how clients log in", enum=["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]),
            "replicationFactor": whole("copies of each record in topics that the migration makes", 1, 9),
            "minInsyncReplicas": whole("copies that must be in step for a write", 1, 9),
            "credentials": secret(
                "Who logs in.",
                {
                    "usernameKey": "key of the user's name; empty: the Secret's name is the user's",
                    "passwordKey": "key of the password",
                },
                per_service=True,
            ),
            "ca": secret("Authority of the brokers' certificates.", {"key": "key of the PEM"}),
            "clientCertificate": secret(
                "Certificate of the clients (mTLS).",
                {"certificateKey": "key of the certificate", "keyKey": "key of the private key"},
                per_service=True,
            ),
        },
    )


def _mongodb() -> Schema:
    return table(
        "The database; a replica set.",
        {
            "uri": secret("Connection string.", {"key": "key of the string"}, per_service=True),
            "ca": secret("Authority of the database's certificates.", {"key": "key of the PEM"}),
            "clientCertificate": secret(
                "Certificate of the clients.", {"key": "key of certificate and private key in one PEM"}
            ),
        },
    )


def _issuer(unnamed: str) -> Schema:
    return table(
        "Whom cert-manager asks for the certificate.",
        {
            "name": text(f"its name; empty: {unnamed}"),
            "kind": text("", enum=["ClusterIssuer", "Issuer"]),
        },
    )


def _grpc_tls() -> Schema:
    hours = r"^[1-9][0-9]*h$"
    return table(
        "Certificates of all who serve gRPC or call it.",
        {
            "enabled": switch("both ends of every call prove who they are"),
            "issuer": _issuer("you bring a Secret for each"),
            "duration": text("how long a certificate of the issuer holds", pattern=hours),
            "renewBefore": text("how long before its end it is renewed", pattern=hours),
            "secretName": text(
                "what Secrets' names begin with, before -SERVICE, -portal, -test; empty: RELEASE-grpc"
            ),
            "certificateKey": text("key of the certificate", minLength=1),
            "keyKey": text("key of the private key", minLength=1),
            "caKey": text("key of the authority that all have in common", minLength=1),
        },
    )


def _site(agent: Workload) -> Schema:
    return table(
        "One hospital.",
        {
            "name": text(
                "its id, in topics and names; never changed", pattern=SITE_NAME, maxLength=SITE_CHARACTERS
            ),
            "displayName": text("its name for people", minLength=1),
            "exposureKey": secret("Key that this site and traceability share.", {"key": "key of 32 bytes"}),
            "kafka": table(
                "Its own way to the backbone: another listener of the same cluster.",
                {"bootstrapServers": text("host:port", pattern=rf"^{_ADDRESS}(,{_ADDRESS})*$")},
            ),
            "mongodb": table(
                "Its own database.", {"uri": secret("Connection string.", {"key": "key of the string"})}
            ),
            "agent": switch("whether it takes part in federated studies (default true)"),
            "agentSettings": _settings(agent),
        },
        ("name", "displayName"),
    )


#: JSON types of pydantic's annotations, as a setting may be written in values.
_TYPES: dict[Any, Schema] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
}


def _setting(info: Any) -> Schema:
    kind = _TYPES.get(info.annotation)
    said = info.description or "see the service's README"
    if kind is None and getattr(info.annotation, "__args__", None) and info.annotation is not dict:
        values = info.annotation.__args__
        if all(isinstance(value, str) for value in values):
            kind = {"type": "string", "enum": list(values)}
    return {**(kind or {"type": "object"}), "description": said}


def _settings(workload: Workload) -> Schema:
    found = {name.upper(): _setting(info) for name, info in own_settings(workload).items()}
    return table("Its settings, without their prefix.", found)


def _service(workload: Workload) -> Schema:
    scaled = table(
        "KEDA on time lag, at most one process a partition.",
        {
            "enabled": switch("let KEDA count the workers"),
            "minReplicas": whole("never fewer", 1, _MOST),
            "maxReplicas": whole("never more", 1, _MOST),
            "lagSeconds": whole("seconds of waiting work at which one more is started", 1),
        },
    )
    part = {"replicas": whole("how many", 1, _MOST), "resources": resources("what each asks for")}
    size = {
        "size": text("how large", pattern=r"^[0-9]+(Mi|Gi|Ti)$"),
        "storageClass": text("its storage class; empty: the cluster's default"),
    }
    keys = {
        "accessMode": text("how many nodes may write", enum=["ReadWriteOnce", "ReadWriteMany"]),
        "existingClaim": text("a claim of yours instead"),
    }
    properties = {
        "enabled": switch("deploy it"),
        "roles": text("api, worker and relay in one process, or apart", enum=["together", "split"]),
        "replicas": whole("processes with the workers", 1, _MOST),
        "resources": resources("what each process asks for; empty: the catalogue's"),
        "settings": _settings(workload),
    }
    if not workload.whole:
        properties["api"] = table("Processes that answer, where roles are split.", part)
        properties["relay"] = table("Processes that publish the outbox; a second one stands by.", part)
    if workload.keys or workload.tables:
        properties["persistence"] = table(
            "Its volume: sealing keys." if workload.keys else "Its volume: tables, which Kafka can restore.",
            {**size, **(keys if workload.keys else {})},
        )
    if not workload.alone:
        properties["autoscaling"] = scaled
    return table(
        f"The service {workload.service}{', once for each site' if workload.site else ''}.", properties
    )


def _portal() -> Schema:
    ingress = table(
        "The way in from outside.",
        {
            "enabled": switch("make an Ingress"),
            "className": text("its class"),
            "host": text("name under which people find it", pattern=r"^([a-z0-9-]+(\.[a-z0-9-]+)+)?$"),
            "annotations": words("for the controller"),
            "tlsSecret": text("Secret with the certificate"),
            "issuer": _issuer("you bring the certificate"),
            "plain": switch("no TLS here: it ends before"),
        },
    )
    return table(
        "The pages.",
        {
            "enabled": switch("deploy them"),
            "replicas": whole("how many", 1, _MOST),
            "resources": resources("what each asks for"),
            "ingress": ingress,
        },
    )


def _network() -> Schema:
    port = {"type": "integer", "minimum": 1, "maximum": 65535}

    def engine(name: str) -> Schema:
        ports = rows("its ports", port, minItems=1)
        return table(f"Where {name} is.", {"to": peers("its pods or addresses"), "ports": ports})

    return table(
        "What may speak with what; everything else is denied.",
        {
            "enabled": switch("make the policies"),
            "kafka": engine("Kafka"),
            "mongodb": engine("MongoDB"),
            "dns": table("Where names are resolved.", {"to": peers("its pods", minItems=1), "port": port}),
            "clients": peers("who else may call the services: partners' gateways"),
            "monitoring": peers("who collects metrics"),
            "ingressController": peers("who leads people to the portal"),
            "elsewhere": peers("where services of `endpoints` are"),
            "traces": peers("where spans go"),
        },
    )


def _demo() -> Schema:
    moment = r"^([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[+-][0-9]{2}:[0-9]{2})?$"
    return table(
        "A simulated industry, never beside real patients.",
        {
            "enabled": switch("deploy it"),
            "seed": whole("the same seed makes the same world", 0),
            "size": text("how large it is", enum=sorted(SIZES)),
            "clock": table(
                "Platform time.",
                {
                    "speed": {"type": "number", "exclusiveMinimum": 0, "description": "seconds in a second"},
                    "anchor": text("when it begins, with offset", pattern=moment),
                },
            ),
        },
    )


def schema() -> Schema:
    """The schema of the umbrella chart's values."""
    by_name = {workload.service: workload for workload in WORKLOADS}
    address = text("where it listens, host:port", pattern=rf"^{_ADDRESS}$")
    properties: dict[str, Schema] = {
        "fullnameOverride": text(
            "beginning of all names instead of the release's; 18 characters",
            pattern=r"^([a-z]([a-z0-9-]*[a-z0-9])?)?$",
            maxLength=18,
        ),
        "commonLabels": words("labels of every resource"),
        "podAnnotations": words("annotations of every pod"),
        "logLevel": text("what is logged", enum=list(LEVELS)),
        "image": _image(),
        "kafka": _kafka(),
        "mongodb": _mongodb(),
        "grpcTls": _grpc_tls(),
        "sites": rows("The hospitals. Add new ones at the end.", _site(by_name["agent"])),
        "exposure": table(
            "Digests of exposures.",
            {"masterKey": secret("Key of traceability alone.", {"key": "key of 32 bytes"})},
        ),
        "endpoints": table(
            "Services that are deployed elsewhere.",
            {w.service: address for w in WORKLOADS if not w.site},
        ),
        "services": table("The services.", {w.service: _service(w) for w in WORKLOADS}),
        "portal": _portal(),
        "migration": table(
            "The job that makes topics, before each install, upgrade and rollback.",
            {
                "enabled": switch("run it"),
                "backoffLimit": whole("tries", 0, 20),
                "deadlineSeconds": whole("all tries together", 30),
                "takeOver": text(
                    "NAMESPACE/RELEASE, gone for good, whose topics this one goes on with; empty: nobody's"
                ),
            },
        ),
        "test": table("`helm test`.", {"enabled": switch("make its pod")}),
        "keepKeys": switch("leave the volumes with keys when the release is uninstalled"),
        "terminationGracePeriodSeconds": whole("for a process to come to its end", LEAST_GRACE, 600),
        "probes": table(
            "When a process is given up.",
            {
                "startSeconds": whole("while it starts (a restored database catches up first)", 60),
                "silentSeconds": whole("since its slowest loop has turned", 30),
            },
        ),
        "scheduling": table(
            "Where pods run.",
            {
                "nodeSelector": words("labels of nodes"),
                "tolerations": rows("taints that are tolerated", free("a toleration")),
                "priorityClassName": text("its priority class"),
            },
        ),
        "autoscaling": table(
            "For all services.",
            {"prometheusServer": text("Prometheus that KEDA asks", pattern=_LINK)},
        ),
        "monitoring": table(
            "For the Prometheus operator.",
            {
                "podMonitor": table(
                    "One PodMonitor for all processes.",
                    {
                        "enabled": switch("make it"),
                        "interval": text("how often", pattern=r"^[0-9]+(s|m)$"),
                        "labels": words("labels by which the operator finds it"),
                    },
                ),
                "rules": table(
                    "Recording and alerting rules, one PrometheusRule for each file of deploy/prometheus.",
                    {
                        "enabled": switch("make them"),
                        "labels": words("labels by which the operator finds them"),
                        "portal": text("address of the portal, before the links to its pages", pattern=_LINK),
                        "runbooks": text("what stands before docs/runbooks in links", pattern=_LINK),
                    },
                ),
                "dashboards": table(
                    "Grafana's dashboards, a ConfigMap for each file of deploy/grafana/dashboards.",
                    {
                        "enabled": switch("make them; links lead to rules.portal and rules.runbooks"),
                        "labels": words("labels by which Grafana's sidecar finds them"),
                    },
                ),
            },
        ),
        "tracing": table(
            "Spans of calls, records and steps.",
            {
                "endpoint": text("where they go, OTLP over gRPC; none if empty", pattern=_COLLECTOR),
                "ratio": {
                    "type": "number",
                    "minimum": 0,
                    "maximum": 1,
                    "description": "share of traces that are kept, the same in every process",
                },
            },
        ),
        "networkPolicy": _network(),
        "demo": _demo(),
        "global": free("Helm's own; nothing reads it"),
        # Helm puts the library's values here, though it has none.
        "pharmaloop-service": table("Helm's own.", {"global": free("")}),
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the chart pharmaloop",
        **table("Values of the chart pharmaloop.", properties),
    }
