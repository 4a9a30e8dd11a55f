"""What the machine must offer: a state folder to write to, and the ports to listen on."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import tempfile
from pathlib import Path

from services.kit.errors import Invalid, Retryable
from services.kit.settings import ServiceSettings, service_prefix

_FULL = "free some space"
#: What a volume says that takes no byte more: full, over its quota, read-only after a fault, or broken.
_TAKES_NOTHING = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
_TRIAL_BYTES = 65536
_DENIED = "give this user the right to write there, or set another folder"


def check_state_dir(folder: Path) -> None:
    """Write to the state folder; names the setting when that is not possible."""
    draft = folder / f".writable.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with draft.open("w") as file:
            file.write("x" * 4096)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        text = f"PHARMALOOP_STATE_DIR={folder} cannot be written ({error.strerror})"
        if isinstance(error, PermissionError | FileExistsError | NotADirectoryError):
            raise Invalid("STATE_DIR", f"{text}: {_DENIED}", "PHARMALOOP_STATE_DIR") from None
        raise Retryable(f"{text}: {_FULL} or set another folder") from None
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()


def takes_nothing(folder: Path) -> str:
    """Why not a byte more can be written in a folder; empty when it can, or where there is no such folder.

    A folder that this user may not write is no trouble: keys that are given to a process are only read.
    """
    try:
        with tempfile.TemporaryFile(dir=folder, prefix=".writable.", buffering=0) as file:
            file.write(b"x" * _TRIAL_BYTES)
    except OSError as error:
        if error.errno in _TAKES_NOTHING:
            return f"{folder} cannot be written ({error.strerror}): {_FULL}, or enlarge its volume"
    return ""


def check_ports(service: str, settings: ServiceSettings) -> None:
    """Refuse a port that another program holds. It may be a predecessor that is about to leave."""
    hosts = {"grpc": settings.grpc_host, "metrics": settings.metrics_host, "health": settings.grpc_host}
    for kind, host in hosts.items():
        port = getattr(settings, f"{kind}_port")
        variable = f"{service_prefix(service)}{kind.upper()}"
        if port:
            _check_port(host, port, variable)


def _check_port(host: str, port: int, variable: str) -> None:
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError:
        raise Invalid(
            "BAD_SETTING", f"{variable}_HOST={host} is not an address of this machine", f"{variable}_HOST"
        ) from None
    with socket.socket(family, kind, proto) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except PermissionError:
            raise Invalid(
                "BAD_SETTING", f"{variable}_PORT={port}: this user may not listen there", f"{variable}_PORT"
            ) from None
        except OSError as error:
            raise Retryable(
                f"cannot listen on {host}:{port} ({error.strerror}): stop the program that holds the port, "
                f"or set {variable}_PORT to another"
            ) from None
