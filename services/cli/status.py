"""`status`: where everything listens and how it does."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import click
import grpc
from rich.console import Console

from pharmaloop.common.v1 import service_pb2 as api
from services.cli.asked import why
from services.cli.group import alone
from services.cli.plain import plain
from services.cli.session import Session
from services.cli.tables import table
from services.kit.rpc.client import metadata

_SECONDS = 3.0
DOWN: dict[str, Any] = {
    "health": "down",
    "lag": None,
    "memory_mb": None,
    "version": None,
    "runners": [],
    "not_ready": [],
    "contract": None,
}


@alone("status", "", "--watch", watched=True)
@click.pass_context
def status(context: click.Context) -> None:
    """Show where the services listen, and their health, lag and memory."""
    session: Session = context.obj
    names = sorted(session.endpoints.grpc)
    for name in names:
        session.channel(name)
    with ThreadPoolExecutor(len(names) or 1) as pool:
        services = dict(zip(names, pool.map(lambda name: _ask(session, name), names), strict=True))
    document = {"endpoints": session.endpoints.document(), "services": services}
    session.show(document, lambda out: _print(out, session, services))
    if any(service["health"] != "serving" for service in services.values()):
        context.exit(1)


def _ask(session: Session, name: str) -> dict[str, Any]:
    """What a service says of itself; one that does not answer is down."""
    try:
        answer = session.status_of(name).GetStatus(
            api.GetStatusRequest(), timeout=_SECONDS, metadata=metadata(session.actor)
        )
    except grpc.RpcError as error:
        silent = (
            why(error.details(), session.endpoints.grpc[name])
            if error.code() == grpc.StatusCode.UNAVAILABLE
            else "no answer"
        )
        told = f"{silent} ({error.code().name}): its log says why it does not run; is the address right?"
        return {**DOWN, "detail": error.code().name, "not_ready": [told]}
    return {
        "health": answer.health,
        "lag": sum(runner.lag for runner in answer.runners),
        "memory_mb": answer.memory_mb,
        "version": answer.version,
        "outbox_waiting": answer.outbox_waiting,
        "runners": [plain(runner) for runner in answer.runners],
        "not_ready": list(answer.not_ready),
        "contract": answer.contract,
    }


def _print(out: Console, session: Session, services: dict[str, dict[str, Any]]) -> None:
    rows = [
        [
            name,
            service["health"],
            session.endpoints.grpc[name],
            _shown(service["lag"]),
            _shown(service["memory_mb"]),
            _shown(service["version"]),
            ", ".join(f"{runner['name']} {runner['state']}" for runner in service["runners"]),
            "\n".join(service["not_ready"]),
        ]
        for name, service in services.items()
    ]
    columns = ["service", "health", "grpc", "lag", "memory MB", "version", "runners", "why not ready"]
    out.print(table("Services", columns, rows))
    builds = {service["contract"]: name for name, service in services.items() if service["contract"]}
    if len(builds) > 1:
        told = ", ".join(f"{name} has {contract}" for contract, name in sorted(builds.items()))
        out.print(f"\nThe services were built with different contracts ({told}): upgrade all to the newest.")
    where = session.endpoints.document()
    out.print(f"\nkafka    {where['kafka'] or 'not known'}\nmongodb  {where['mongodb'] or 'not known'}")
    out.print(f"addresses from {where['source']}")


def _shown(value: object) -> str:
    return "-" if value is None else str(value)
