"""The schema of the values of pharmaloop-kafka, closed like the umbrella's."""

from __future__ import annotations

from deploy.charts.schema import SITE_CHARACTERS, SITE_NAME, Schema, free, rows, switch, table, text, whole
from deploy.charts.schema import resources as amounts


def _pool(role: str) -> Schema:
    return table(
        f"The {role}s.",
        {
            "replicas": whole("how many", 1, 99),
            "size": text("how large each one's volume is", pattern=r"^[0-9]+(Mi|Gi|Ti)$"),
            "storageClass": text("its storage class; empty: the cluster's default"),
            "resources": amounts("what each asks for"),
        },
    )


def schema() -> Schema:
    """The schema of the backbone chart's values."""
    properties = {
        "cluster": table(
            "The Kafka cluster.",
            {
                "name": text("its name", pattern=SITE_NAME, maxLength=40),
                "create": switch("make it; false: its topics and users only"),
                "version": text(
                    "Kafka's version; empty: the operator's", pattern=r"^([0-9]+\.[0-9]+\.[0-9]+)?$"
                ),
                "controllers": _pool("controller"),
                "brokers": _pool("broker"),
                "zoneKey": text("label of nodes by which copies are spread; empty: not at all"),
                "listeners": rows(
                    "further listeners, such as one for a hospital's network", free("a listener")
                ),
            },
        ),
        "replicationFactor": whole("copies of each record", 1, 9),
        "minInsyncReplicas": whole("copies that must be in step for a write", 1, 9),
        "sites": rows(
            "Names of the hospitals, as in the platform's values.",
            text("its id", pattern=SITE_NAME, maxLength=SITE_CHARACTERS),
        ),
        "users": table(
            "Who may log in: one user for each service, and for each site where a service stands at one.",
            {
                "create": switch("make them"),
                "prefix": text("what their names begin with", pattern=SITE_NAME, maxLength=20),
                "authentication": text("how they log in", enum=["tls", "scram-sha-512"]),
                "backup": switch("a user for `pharmaloop backup make`, who may read everything"),
                "restore": switch(
                    "a user for `pharmaloop backup restore`, who may write everything, for that time"
                ),
            },
        ),
        "keep": switch("leave cluster and topics when the release is uninstalled"),
        "global": free("Helm's own; nothing reads it"),
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the chart pharmaloop-kafka",
        **table("Values of the chart pharmaloop-kafka.", properties),
    }
