"""Which Kubernetes versions the charts are tried on: all, or those that KUBERNETES names."""

import os
from collections.abc import Mapping

from deploy.cluster import build


def asked_for(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The names of the versions ("1.37,1.34"), checked; raises BuildError for one that is not tried here."""
    told = environment.get("KUBERNETES", "").replace(" ", "")
    return [build.version_of(name).name for name in told.split(",")] if told else list(build.VERSIONS)
