"""Run a cluster in the background: `python -m deploy.cluster up|down|status|build`."""

import argparse
import sys
import time
from pathlib import Path

from deploy.cluster import build, control_plane, crds
from deploy.cluster.client import Client, CommandFailed
from deploy.cluster.control_plane import ClusterError, ControlPlane
from deploy.cluster.lab import furnish
from deploy.local import kube_tools
from deploy.local.kube_tools import KubeToolsError
from deploy.local.stamps import ROOT

FOLDER = ROOT / ".state" / "cluster"


def up(version: build.Version, folder: Path = FOLDER) -> int:
    if control_plane.running(folder):
        print("cluster: it is already up; 'make cluster-down' stops it")
        return status(folder)
    programs = build.programs(version)
    started = time.monotonic()
    plane = ControlPlane(programs, folder)
    plane.forget()
    plane.start(tied=False)
    try:
        client = Client(folder, plane.admin)
        furnish(client, plane.storage)
        client.install(crds.OPERATORS)
    except BaseException:
        plane.stop()
        raise
    print(f"cluster: Kubernetes {version.kubernetes} is ready after {time.monotonic() - started:.0f} s")
    return status(folder)


def down(folder: Path = FOLDER) -> int:
    stopped = control_plane.kill(folder)
    print("cluster: everything is stopped" if stopped else "cluster: nothing is running")
    return 0


def status(folder: Path = FOLDER) -> int:
    processes = control_plane.running(folder)
    if not processes:
        print("cluster: it is down; 'make cluster' starts it")
        return 1
    print(f"cluster: {len(processes)} of {len(build.PARTS)} processes run; speak to it with:")
    print(f"  export KUBECONFIG={folder / 'admin.conf'} PATH={kube_tools.helm().parent}:$PATH")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="cluster", description="A Kubernetes control plane without containers."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    known = ", ".join(build.VERSIONS)
    command = commands.add_parser("up", help="start in the background")
    command.add_argument("--version", default=build.NEWEST, help=f"one of {known}")
    command = commands.add_parser("build", help="build what is missing and fetch the rest, start nothing")
    command.add_argument("--version", default=known, help=f"some of {known}")
    for name, text in (("down", "stop it"), ("status", "whether it runs, and how to speak to it")):
        commands.add_parser(name, help=text)
    told = parser.parse_args()
    try:
        if told.command == "up":
            return up(build.version_of(told.version))
        if told.command == "build":
            for version in told.version.replace(" ", "").split(","):
                build.programs(build.version_of(version))
            for operator in crds.OPERATORS:
                crds.files(operator)
            kube_tools.fetch()
            return 0
        return {"down": down, "status": status}[told.command]()
    except (build.BuildError, ClusterError, CommandFailed, KubeToolsError) as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
