"""docs/deploy.md can be typed: commands, options, values, names and messages are those that exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from deploy.charts.conform import VERSIONS
from deploy.charts.render import BACKBONE, ROOT, UMBRELLA, Document, documents, notes, run, template
from deploy.cluster import build
from deploy.cluster.crds import MODULES
from deploy.images.catalogue import IMAGES
from deploy.local.kube_tools import HELM_VERSION
from services.cli.main import cli
from services.cli.session import Session
from services.kit.startup.database import OLDEST
from tests.charts import deploy_page as page
from tests.charts import kubernetes
from tests.charts.resources import Resources

BACKUP, RESTORE = (ROOT / "deploy" / "kubernetes" / f"{name}.yaml" for name in ("backup", "restore"))
COMMANDS = page.commands()
#: Those that name a chart; running text names some commands alone.
RENDERED = [
    c
    for c in COMMANDS
    if c.program == "helm" and c.words[0] in ("install", "upgrade", "template") and len(c.words) > 2
]


def _id(command: page.Command) -> str:
    return " ".join((command.program, *command.words))


@pytest.fixture(scope="module")
def installed() -> Resources:
    """What the page's first installation makes."""
    return Resources(documents(template(UMBRELLA, [page.OWN_ENGINES])))


def test_the_page_has_the_whole_walk() -> None:
    verbs = {f"{c.program} {c.words[0]}" for c in COMMANDS}
    wanted = ("install", "test", "upgrade", "rollback", "uninstall", "history")
    assert {f"helm {verb}" for verb in wanted} <= verbs
    assert len(COMMANDS) > 50


def test_the_values_file_is_the_example() -> None:
    assert page.OWN_ENGINES.read_text() in page.blocks("yaml")
    assert f"cp {page.OWN_ENGINES.relative_to(ROOT)} values.yaml\n" in page.blocks("sh")


def test_the_notes_are_those_of_the_installation() -> None:
    told = notes(UMBRELLA, [page.OWN_ENGINES]).strip()
    assert re.sub(r"^PharmaLoop \S+", "PharmaLoop 0.1.0", told) + "\n" in page.blocks("")


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.program in ("helm", "kubectl")], ids=_id)
def test_helm_and_kubectl_know_the_command_and_its_options(command: page.Command) -> None:
    told = page.help_for(command)
    assert told, f"{command.program} has no command {command.words}"
    unknown = [flag for flag in command.flags if not re.search(rf"(?<![\w-]){flag}(?![\w-])", told)]
    assert unknown == []


@pytest.mark.parametrize("command", RENDERED, ids=_id)
def test_what_helm_is_given_is_taken(command: page.Command, tmp_path: Path) -> None:
    release, chart = command.words[1:3]
    assert (release, ROOT / chart) in (("pharmaloop", UMBRELLA), ("backbone", BACKBONE))
    written = page.values_files()
    values = []
    for name in command.told("-f", "--values"):
        if name == "values.yaml":
            values.append(page.OWN_ENGINES)
            continue
        (tmp_path / name).write_text(written[name])
        values.append(tmp_path / name)
    words = [word for path in values for word in ("--values", str(path))]
    words += [word for one in command.told("--set") for word in ("--set", one)]
    assert documents(run("template", release, str(ROOT / chart), "--namespace", "pharma", *words))


def test_every_values_file_that_is_written_out_is_tried() -> None:
    tried = {name for command in RENDERED for name in command.told("-f")}
    assert tried == {"values.yaml", *page.values_files()}


def test_all_steps_one_upon_the_other_are_one_installation(tmp_path: Path) -> None:
    paths = [page.OWN_ENGINES]
    for name, text in page.values_files().items():
        paths.append(tmp_path / name)
        paths[-1].write_text(text)
    whole = Resources(documents(template(UMBRELLA, paths)))
    assert {"pharmaloop-clinical-hospital-c", "pharmaloop-production-worker"} <= whole.names("StatefulSet")
    assert all(whole.of(kind) for kind in ("Certificate", "PodMonitor", "ScaledObject"))
    assert whole.pod("pharmaloop-migrate").container["image"].endswith(":0.2.0")


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.program == "make"], ids=_id)
def test_make_has_the_target(command: page.Command) -> None:
    assert command.words[0] in page.make_targets()
    for only in command.told("ONLY"):
        assert only in IMAGES


def test_the_image_is_built_from_what_is_there() -> None:
    (command,) = [c for c in COMMANDS if c.program == "docker" and c.words[0] == "build"]
    (file,) = command.told("-f")
    arguments = dict(one.split("=", 1) for one in command.told("--build-arg") if "=" in one)
    known = set(re.findall(r"^ARG (\w+)", (ROOT / file).read_text(), re.M))
    assert set(arguments) <= known
    assert arguments["IMAGE"] in IMAGES
    example = yaml.safe_load(page.OWN_ENGINES.read_text())["image"]["registry"]
    assert command.told("-t") == [f"{example}/{IMAGES['platform'].repository}:{arguments['VERSION']}"]


def _pharmaloop() -> list[page.Command]:
    found = [one.within or one for one in COMMANDS]
    for path in (BACKUP, RESTORE):
        for line in path.read_text().splitlines():
            listed = re.search(r"command: \[(pharmaloop[^\]]*)\]", line)
            found += page.calls(listed[1].replace(",", "") if listed else line.strip())
    return [one for one in found if one.program == "pharmaloop"]


@pytest.mark.parametrize("command", _pharmaloop(), ids=_id)
def test_pharmaloop_takes_the_command(command: page.Command) -> None:
    parsed: click.Command = cli
    words = list(command.words)
    while isinstance(parsed, click.Group):
        below = parsed.get_command(click.Context(parsed), words[0])
        assert below is not None, f"there is no {words[0]!r}"
        parsed, words = below, words[1:]
    parsed.make_context(parsed.name or "", words, obj=Session())


def test_a_wrong_command_would_be_found() -> None:
    (wrong,) = page.calls("helm upgrade x y --roll-back-on-failure")
    assert "--roll-back-on-failure" not in page.help_for(wrong)
    assert page.help_for(next(iter(page.calls("kubectl fetch pods")))) == ""


def test_names_of_pods_and_services_are_those_that_are_made(installed: Resources) -> None:
    names = {f"{d['kind'].lower()}/{d['metadata']['name']}" for d in installed.all}
    names |= {name.replace("deployment/", "deploy/") for name in names}
    names |= {f"{name.partition('/')[2]}-0" for name in names if name.startswith("statefulset/")}
    names |= {d["metadata"]["name"] for d in installed.all}
    own = [documents(path.read_text()) for path in (BACKUP, RESTORE)]
    names |= {f"{d['kind'].lower()}/{d['metadata']['name']}" for found in own for d in found}
    names |= {"job/backup-now", "kafka/backbone"}
    for command in COMMANDS:
        if command.program == "kubectl" and "create" not in command.words:
            named = [w for w in command.words if re.fullmatch(r"(\w+/)?(pharmaloop|backup)-[\w-]+", w)]
            assert [name for name in named if name not in names] == [], _id(command)


def test_the_secrets_that_are_made_are_those_that_are_named(installed: Resources) -> None:
    text = page.PAGE.read_text()
    for name, what in installed.secrets.items():
        assert f"`{name}`" in text
        assert all(f"`{key.strip()}`" in text for key in what.partition(":")[0].split(","))
    made = {}
    for block in page.blocks("sh"):
        listed = re.search(r"for name in ([^;]+); do", block)
        for command in (c for line in block.splitlines() for c in page.calls(line)):
            if command.words[2:5] != ("create", "secret", "generic"):
                continue
            keys = [one.partition("=")[0] for one in command.told("--from-file", "--from-literal")]
            names = listed[1].split() if command.words[5] == "$name" and listed else [command.words[5]]
            made.update(dict.fromkeys(names, keys))
    for name, what in installed.secrets.items():
        assert made[name] == [key.strip() for key in what.partition(":")[0].split(",")], name


def test_caps_are_those_of_the_chart() -> None:
    rows = re.findall(r"^\| (`.*?) \| (\d+) \|", page.PAGE.read_text(), re.M)
    told = {name: int(most) for row, most in rows for name in re.findall(r"`(\w+)`", row)}
    catalogue = yaml.safe_load((UMBRELLA / "files" / "catalogue.yaml").read_text())
    assert told == {name: entry["cap"] for name, entry in catalogue.items()}


def test_versions_are_those_that_are_tried() -> None:
    text = page.PAGE.read_text()
    assert f"| {HELM_VERSION.removeprefix('v')} |" in text
    assert f"| MongoDB | {OLDEST} or newer" in text
    tried = " and ".join(sorted(build.VERSIONS))
    assert f"| Kubernetes | {VERSIONS[0].removesuffix('.0')} or newer | {tried} (" in text
    for module in MODULES.values():
        assert module.version.removeprefix("v") in text


@pytest.mark.parametrize("pieces", page.messages(), ids=lambda pieces: pieces[0])
def test_a_message_of_the_table_is_one_that_is_printed(pieces: list[str]) -> None:
    # Helm says by the schema what is no key; test_refusals.py holds the wording.
    source = (*page.printed(), (ROOT / "tests" / "charts" / "test_refusals.py").read_text())
    for piece in pieces:
        assert any(piece in text for text in source), piece


def test_links_lead_somewhere() -> None:
    assert [str(path) for path in page.links() if not path.exists()] == []


def _pods(path: Path) -> list[dict[str, Any]]:
    found = []
    for document in documents(path.read_text()):
        spec = document["spec"]
        spec = spec.get("jobTemplate", {}).get("spec", spec)
        if "template" in spec:
            found.append(spec["template"]["spec"])
    return found


@pytest.mark.parametrize("path", [BACKUP, RESTORE], ids=lambda path: path.stem)
@pytest.mark.parametrize("version", VERSIONS)
def test_manifests_of_backups_are_valid(path: Path, version: str) -> None:
    found: list[Document] = documents(path.read_text())
    assert found
    for document in found:
        kubernetes.check(document, version)


@pytest.mark.parametrize("path", [BACKUP, RESTORE], ids=lambda path: path.stem)
def test_backups_run_as_the_services_do(path: Path, installed: Resources) -> None:
    (pod,) = _pods(path)
    (container,) = pod["containers"]
    service, migrate = installed.pod("pharmaloop-alerting"), installed.pod("pharmaloop-migrate")
    assert container["image"].rpartition(":")[0] == service.container["image"].rpartition(":")[0]
    assert {**pod["securityContext"], "fsGroupChangePolicy": "OnRootMismatch"} == service.spec[
        "securityContext"
    ]
    assert container["securityContext"] == service.container["securityContext"]
    told = {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container["env"]}
    here = {**migrate.environment, **service.environment}
    copies = {"KAFKA_REPLICATION_FACTOR", "KAFKA_MIN_INSYNC_REPLICAS"} if path == RESTORE else set()
    engines = {n for n in service.environment if n.startswith(("KAFKA_", "MONGODB_"))} | copies
    assert set(told) == engines | {"HOME"}
    assert {name: told[name] for name in engines} == {name: here[name] for name in engines}
    mounts = {m["mountPath"] for m in container["volumeMounts"]}
    assert mounts - {"/backups"} == set(service.mounts)


def test_what_bad_operation_gets_is_proven_by_tests_that_there_are() -> None:
    alerts = "".join(path.read_text() for path in (ROOT / "deploy/prometheus/alerting").glob("*.yaml"))
    assert len(page.troubles()) >= 9
    for named, tests in page.troubles():
        assert tests
        for file, name in tests:
            assert re.search(rf"def {name}\(", (ROOT / file).read_text()), f"{file}::{name}"
        for alert in named:
            assert f"alert: {alert}\n" in alerts, alert
