"""The proxy breaks what it is told to break, and never alters a byte."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Iterator

import pytest

from tests.reliability.proxy import HOST, Faults, Proxy


class _Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while data := self.request.recv(65_536):
            self.request.sendall(data)


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with socketserver.ThreadingTCPServer((HOST, 0), _Echo) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        made = Proxy(server.server_address[1])
        made.start()
        yield made
        made.stop()
        server.shutdown()


def connected(proxy: Proxy) -> socket.socket:
    made = socket.create_connection((HOST, proxy.port), timeout=10)
    assert echoed(made, b"hello") == b"hello"
    return made


def echoed(connection: socket.socket, data: bytes) -> bytes:
    connection.sendall(data)
    got = b""
    while len(got) < len(data) and (more := connection.recv(65_536)):
        got += more
    return got


LARGE = bytes(range(256)) * 400


@pytest.mark.parametrize(
    "faults", [Faults(), Faults(slicer=7_000), Faults(latency=0.02, jitter=0.01), Faults(bandwidth=1_000_000)]
)
def test_what_passes_is_whole_and_in_order(proxy: Proxy, faults: Faults) -> None:
    with connected(proxy) as connection:
        proxy.set(faults)
        assert echoed(connection, LARGE) == LARGE


def test_latency_and_bandwidth_take_at_least_their_time(proxy: Proxy) -> None:
    with connected(proxy) as connection:
        proxy.set(Faults(latency=0.1))
        begun = time.monotonic()
        echoed(connection, b"x")
        assert time.monotonic() - begun >= 0.2, "there and back"
        proxy.set(Faults(bandwidth=len(LARGE) * 5))
        begun = time.monotonic()
        echoed(connection, LARGE)
        assert time.monotonic() - begun >= 0.2


def test_a_timeout_holds_everything_and_healing_lets_it_go_on(proxy: Proxy) -> None:
    with connected(proxy) as connection:
        proxy.set(Faults(timeout=True))
        connection.sendall(b"held")
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.recv(10)
        proxy.heal()
        connection.settimeout(10)
        assert connection.recv(10) == b"held"


def test_a_lost_connection_stays_silent_and_a_new_one_works(proxy: Proxy) -> None:
    with connected(proxy) as lost:
        assert proxy.lose() == 1
        lost.sendall(b"never")
        lost.settimeout(0.3)
        with pytest.raises(TimeoutError):
            lost.recv(10)
        with connected(proxy) as new:
            assert echoed(new, LARGE) == LARGE


def test_a_reset_and_a_limit_end_the_connection(proxy: Proxy) -> None:
    with connected(proxy) as connection:
        assert proxy.reset_peer() == 1
        with pytest.raises(ConnectionResetError):
            connection.recv(10)
    with connected(proxy) as connection:
        proxy.set(Faults(limit_data=10))
        connection.sendall(b"x" * 20)
        assert connection.recv(10) == b"", "closed, and not one byte more"


def test_down_refuses_and_up_takes_connections_again(proxy: Proxy) -> None:
    with connected(proxy) as connection:
        proxy.down()
        assert connection.recv(10) == b""
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((HOST, proxy.port), timeout=10)
        proxy.up()
        connected(proxy).close()
