"""The ports of one checkout: chosen once, kept in its state directory.

Kept, because addresses that stay the same can be written into a client or a
dashboard. Chosen from a range below the one that systems give to outgoing
connections, starting at a place that depends on the checkout, so that two
checkouts rarely want the same ones even while one of them is down.
"""

import json
import os
import zlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from services.kit.testing.engines import EngineError, check_port

FIRST, LAST = 20_000, 32_000
BLOCK = 32
ENV_PREFIX = "PHARMALOOP_PORT_"


def setting(name: str) -> str:
    """The environment variable that overrides a port."""
    return f"{ENV_PREFIX}{name.upper()}"


def load_ports(
    state: Path,
    names: list[str],
    environment: Mapping[str, str] = os.environ,
    *,
    given: Collection[int] = (),
) -> dict[str, int]:
    """The port of every name: overridden, kept from before, or chosen now and kept from here on.

    `given` are ports that others have been given and may not listen on yet.
    """
    file = state / "ports.json"
    kept: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}
    missing = [name for name in names if name not in kept]
    if missing:
        free = _free_ports(state, taken={*kept.values(), *given})
        kept |= {name: next(free) for name in missing}
        state.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(kept, indent=2) + "\n")
    return {name: _overridden(name, environment) or kept[name] for name in names}


def _overridden(name: str, environment: Mapping[str, str]) -> int | None:
    value = environment.get(setting(name))
    if value is None:
        return None
    if not value.isdecimal() or not 0 < int(value) < 65536:
        raise EngineError(f"{setting(name)}={value} is not a port number")
    return int(value)


def _free_ports(state: Path, taken: set[int]) -> Iterator[int]:
    blocks = (LAST - FIRST) // BLOCK
    start = FIRST + zlib.crc32(str(state).encode()) % blocks * BLOCK
    for port in (*range(start, LAST), *range(FIRST, start)):
        if port not in taken and _is_free(port):
            yield port
    raise EngineError(f"no free port between {FIRST} and {LAST}: name others with {ENV_PREFIX}<NAME>=<port>")


def _is_free(port: int) -> bool:
    try:
        check_port(port, "", "")
    except EngineError:
        return False
    return True
