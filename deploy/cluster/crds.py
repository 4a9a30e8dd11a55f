"""The real resource definitions of the operators that the charts speak to, fetched when a test wants them.

KEDA, the Prometheus operator and cert-manager ship theirs inside their Go
modules; Strimzi's are generated from its published classes by its own
generator. Nothing of them is kept in this repository: they land in the cache,
at pinned versions (Go modules by their checksum too).
"""

import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from deploy.cluster import cache
from deploy.cluster.build import BuildError, go
from deploy.local.setup_env import maven_environment
from services.kit.testing import java

STRIMZI_POM = Path(__file__).with_name("strimzi.xml")


@dataclass(frozen=True, slots=True)
class Module:
    """A Go module that carries resource definitions in one of its folders."""

    path: str
    version: str
    checksum: str
    folder: str


MODULES = {
    "keda": Module(
        "github.com/kedacore/keda/v2",
        "v2.21.0",
        "h1:R6z2HZvstK4RLUMxroNACzBj74xGxt3kG59b5Xc+Xps=",
        "config/crd/bases",
    ),
    "prometheus-operator": Module(
        "github.com/prometheus-operator/prometheus-operator",
        "v0.85.0",
        "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=",
        "example/prometheus-operator-crd",
    ),
    "cert-manager": Module(
        "github.com/cert-manager/cert-manager",
        "v1.21.2",
        "h1:UWgoYM+KLNtRlqmoWOKjKBOBUPVHeepQ6/ac3ERJW68=",
        "deploy/crds",
    ),
}
STRIMZI = "strimzi"
OPERATORS = (*MODULES, STRIMZI)

_MODEL = "io.strimzi.api.kafka.model"
#: The class that each of Strimzi's definitions is generated from.
STRIMZI_CLASSES = {
    "kafka": f"{_MODEL}.kafka.Kafka",
    "nodepool": f"{_MODEL}.nodepool.KafkaNodePool",
    "topic": f"{_MODEL}.topic.KafkaTopic",
    "user": f"{_MODEL}.user.KafkaUser",
}


def files(operator: str) -> list[Path]:
    """The definitions of that operator (one of OPERATORS), fetched or generated on first use.

    Raises BuildError when they cannot be had, KeyError for an operator that is not known here.
    """
    if operator == STRIMZI:
        name = f"definitions-{STRIMZI}-{cache.key([STRIMZI_POM], *STRIMZI_CLASSES.values())}"
        folder = cache.made(name, _generate)
    else:
        module = MODULES[operator]
        name = f"definitions-{operator}-{cache.key([], module.path, module.checksum, module.folder)}"
        folder = cache.made(name, lambda target: _copy(module, target))
    return sorted(folder.glob("*.yaml"))


def _copy(module: Module, target: Path) -> None:
    # Outside of any module, or go would look for it among that one's requirements.
    with tempfile.TemporaryDirectory() as elsewhere:
        told = json.loads(
            go("mod", "download", "-json", f"{module.path}@{module.version}", cwd=Path(elsewhere))
        )
    if told["Sum"] != module.checksum:
        raise BuildError(
            f"{module.path} {module.version} is not what it was: "
            f"checksum {told['Sum']}, pinned {module.checksum}"
        )
    found = sorted((Path(told["Dir"]) / module.folder).glob("*.yaml"))
    for file in found:
        (target / file.name).write_bytes(file.read_bytes())
    if not found:
        raise BuildError(f"{module.path} {module.version} has no definitions in {module.folder}")


def _generate(target: Path) -> None:
    program, maven = java.find_java(), shutil.which("mvn")
    if program is None or maven is None:
        raise BuildError(f"Strimzi's definitions need Maven and a Java: install Maven; {java.REMEDY}")
    with tempfile.TemporaryDirectory() as scratch:
        libs = Path(scratch) / "libs"
        _run(
            [
                maven,
                "-B",
                "-q",
                "-f",
                str(STRIMZI_POM),
                "dependency:copy-dependencies",
                f"-DoutputDirectory={libs}",
            ]
        )
        outputs = [f"{model}={target / name}.yaml" for name, model in STRIMZI_CLASSES.items()]
        options = ["--yaml", "--target-kube", "1.25+", "--crd-api-version", "v1"]
        _run([str(program), "-cp", f"{libs}/*", "io.strimzi.crdgenerator.CrdGenerator", *options, *outputs])


def _run(command: list[str]) -> None:
    done = subprocess.run(command, env=maven_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"{Path(command[0]).name} failed:\n{(done.stdout + done.stderr)[-3000:]}")
