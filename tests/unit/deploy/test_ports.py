"""Ports are chosen once per checkout, kept, and overridden by name."""

import json
import socket
from pathlib import Path

import pytest

from deploy.local.plan import PORT_NAMES
from deploy.local.ports import load_ports
from services.kit.testing.engines import HOST, EngineError


def test_every_name_gets_a_port_of_its_own_and_keeps_it(tmp_path: Path) -> None:
    ports = load_ports(tmp_path, PORT_NAMES, {})
    assert set(ports) == set(PORT_NAMES)
    assert len(set(ports.values())) == len(PORT_NAMES)
    assert load_ports(tmp_path, PORT_NAMES, {}) == ports


def test_a_new_name_does_not_move_the_others(tmp_path: Path) -> None:
    before = load_ports(tmp_path, ["kafka", "mongodb"], {})
    after = load_ports(tmp_path, ["kafka", "portal", "mongodb"], {})
    assert {name: after[name] for name in before} == before
    assert after["portal"] not in before.values()


def test_two_checkouts_start_from_different_places(tmp_path: Path) -> None:
    first, second = load_ports(tmp_path / "a", PORT_NAMES, {}), load_ports(tmp_path / "b", PORT_NAMES, {})
    assert not set(first.values()) & set(second.values())


def test_a_port_that_is_taken_is_not_chosen(tmp_path: Path) -> None:
    wanted = load_ports(tmp_path, ["kafka"], {})["kafka"]
    (tmp_path / "ports.json").unlink()
    with socket.create_server((HOST, wanted)):
        assert load_ports(tmp_path, ["kafka"], {})["kafka"] != wanted


def test_the_environment_overrides_for_one_run_only(tmp_path: Path) -> None:
    kept = load_ports(tmp_path, ["kafka"], {})["kafka"]
    assert load_ports(tmp_path, ["kafka"], {"PHARMALOOP_PORT_KAFKA": "12345"})["kafka"] == 12345
    assert json.loads((tmp_path / "ports.json").read_text()) == {"kafka": kept}


@pytest.mark.parametrize("value", ["", "abc", "0", "65536", "-1"])
def test_what_is_no_port_is_refused_by_the_name_of_its_setting(tmp_path: Path, value: str) -> None:
    with pytest.raises(EngineError, match=rf"^PHARMALOOP_PORT_KAFKA={value} is not a port number$"):
        load_ports(tmp_path, ["kafka"], {"PHARMALOOP_PORT_KAFKA": value})
