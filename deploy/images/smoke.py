"""Start an image as a container would, and ask it how it is: `make images-smoke`.

The image's files become the root of a process in a mount namespace of its own:
mounted read-only, but for /tmp and the state folder, as the image's user, with
nothing of this environment. Kafka and MongoDB are those of the tests, on free
ports of the loopback, and the image's own migration makes the topics.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from deploy.images.build import BuildError, check_machine, config_of, opened, version
from deploy.images.catalogue import IMAGES, USER
from deploy.local.health import health, health_of_page
from services.kit.testing.engines import KafkaEngine, MongoEngine, free_port, running, stop

STATE = "/var/lib/pharmaloop"
#: How the charts start one of the services in the image that has them all.
CHARTED = ("alerting", ["python", "-m", "services.alerting.main", "--role", "all"])
SECONDS = 120
#: The root is laid over itself and closed after what may be written was laid into it.
_ENTER = """set -e
mount --bind {root} {root}
mount -t proc proc {root}/proc
mount --bind /dev {root}/dev
mount -t tmpfs tmpfs {root}/tmp
mount --bind {state} {root}{inside}
mount -o remount,bind,ro {root}
if touch {root}/opt/pharmaloop/written 2>/dev/null; then echo 'the root can be written'; exit 1; fi
exec chroot --userspec={user} {root} {command}
"""


@dataclass(frozen=True)
class Root:
    """An image's files, the state folder of a run, and the environment that the image gives."""

    files: Path
    state: Path
    given: dict[str, str]

    def command(self, words: list[str], environment: dict[str, str]) -> list[str]:
        """The command line that runs `words` in the image, with its environment and `environment`."""
        told = [f"{name}={value}" for name, value in {**self.given, **environment}.items()]
        inside = shlex.join(["/usr/bin/env", "-i", *told, *words])
        script = _ENTER.format(root=self.files, state=self.state, inside=STATE, user=USER, command=inside)
        return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]


def smoke(name: str) -> str:
    """Start an image and wait until it serves; answers what was seen. BuildError when it does not."""
    reference = f"localhost/{IMAGES[name].repository}:{version()}"
    with ExitStack() as stack:
        files = stack.enter_context(opened(reference))
        work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        work.chmod(0o755)
        state = work / "state"
        state.mkdir(mode=0o700)
        os.chown(state, *(int(number) for number in USER.split(":")))
        config = config_of(reference)
        root = Root(files, state, dict(line.split("=", 1) for line in config["Env"]))
        if name == "cli":
            return _answers(root, [*config["Entrypoint"], "--help"])
        service, words = CHARTED if name == "platform" else (name, [*config["Entrypoint"]])
        port = free_port()
        environment = {"PHARMALOOP_ENDPOINTS": json.dumps({"alerting": f"127.0.0.1:{free_port()}"})}
        if name == "portal":
            environment |= {"PHARMALOOP_PORTAL_HTTP_PORT": str(port)}
        else:
            environment |= {f"PHARMALOOP_{service.upper()}_GRPC_PORT": str(port)}
            environment |= _engines(stack, work)
            _said(root.command(["python", "-m", "services.kit.bus.migrate"], environment))
        return _serve(root, name, words, environment, port)


def _engines(stack: ExitStack, work: Path) -> dict[str, str]:
    """Start Kafka and MongoDB; answers the settings that say where they are."""
    kafka = KafkaEngine(work / "kafka", free_port(), free_port())
    mongod = MongoEngine(work / "mongod", free_port())
    for engine in (kafka, mongod):
        stack.enter_context(running(engine, work / f"{engine.name}.log", timeout=SECONDS))
    return {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap, "MONGODB_URI": mongod.uri}


def _said(command: list[str]) -> str:
    """What a program printed; BuildError with it where it failed."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise BuildError(f"'{command[-1].splitlines()[-1]}' failed:\n{done.stdout}")
    return done.stdout


def _answers(root: Root, words: list[str]) -> str:
    """A program that serves nobody says how it is used."""
    start = time.monotonic()
    told = _said(root.command(words, {}))
    if not told.startswith("Usage:"):
        raise BuildError(f"'{' '.join(words)}' does not say how it is used:\n{told}")
    return f"answers after {time.monotonic() - start:.1f} s, read-only root"


def _serve(root: Root, name: str, words: list[str], environment: dict[str, str], port: int) -> str:
    log = root.state.with_name("service.log")
    start = time.monotonic()
    with log.open("ab") as file:
        child = subprocess.Popen(
            root.command(words, environment), stdout=file, stderr=subprocess.STDOUT, process_group=0
        )
    try:
        while time.monotonic() - start < SECONDS and child.poll() is None:
            page = f"http://127.0.0.1:{port}/"
            if (health_of_page(page) if name == "portal" else health(f"127.0.0.1:{port}")) == "SERVING":
                return (
                    f"SERVING after {time.monotonic() - start:.1f} s, as {owner(child.pid)}, read-only root"
                )
            time.sleep(0.2)
    finally:
        stop(child, 30)
    raise BuildError(f"pharmaloop-{name} did not serve; its log:\n{log.read_text()[-3000:]}")


def owner(pid: int) -> str:
    """Numbers of the user and the group of a process; BuildError where it could become root."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = {line.split(":")[0]: line.split()[1:] for line in lines}
    users, groups = set(fields["Uid"]), set(fields["Gid"])
    if len(users) != 1 or len(groups) != 1 or fields["CapEff"] != ["0" * 16]:
        raise BuildError(f"the process could become another: {users}, {groups}, rights {fields['CapEff']}")
    return f"{users.pop()}:{groups.pop()}"


def main() -> None:
    names = sys.argv[1:] or ["alerting"]
    if unknown := [name for name in names if name not in IMAGES]:
        sys.exit(f"images: there is no image {unknown[0]!r}; choose of {', '.join(IMAGES)}")
    try:
        check_machine()
        for name in names:
            print(f"pharmaloop-{name}: {smoke(name)}", flush=True)
    except BuildError as error:
        sys.exit(f"images: {error}")


if __name__ == "__main__":
    main()
