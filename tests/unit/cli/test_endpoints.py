"""Where the command looks for the services, in which order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from services.cli.endpoints import NoEndpoints, find_endpoints

WHOLE = {
    "grpc": {"production": "h:1"},
    "metrics": {"production": "h:2"},
    "kafka": "h:3",
    "mongodb": "mongodb://user:secret@h:4/?replicaSet=rs0",
}


def test_the_file_is_found_from_a_folder_below(tmp_path: Path) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (tmp_path / ".state").mkdir()
    (tmp_path / ".state" / "endpoints.json").write_text(json.dumps(WHOLE))
    found = find_endpoints(environment={}, start=below)
    assert found.grpc == {"production": "h:1"}
    assert found.document()["mongodb"] == "mongodb://user:***@h:4/?replicaSet=rs0"


def test_the_order_is_option_environment_file(tmp_path: Path) -> None:
    (tmp_path / "endpoints.json").write_text(json.dumps(WHOLE))
    environment = {"PHARMALOOP_STATE_DIR": str(tmp_path)}
    assert find_endpoints(environment=environment).kafka == "h:3"
    environment["PHARMALOOP_ENDPOINTS"] = '{"production": "e:1"}'
    assert find_endpoints(environment=environment).grpc == {"production": "e:1"}
    assert find_endpoints('{"production": "o:1"}', environment).grpc == {"production": "o:1"}
    assert find_endpoints(str(tmp_path / "endpoints.json"), environment).grpc == {"production": "h:1"}


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(NoEndpoints, match=r"no file '/nowhere\.json'"):
        find_endpoints("/nowhere.json", {})


@pytest.mark.parametrize("text", ["{nonsense", '{"grpc": 3}'])
def test_what_is_no_map_is_refused_plainly(text: str) -> None:
    with pytest.raises(NoEndpoints, match="not a JSON map"):
        find_endpoints(text, {})


def test_nothing_to_be_found_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NoEndpoints, match="make up"):
        find_endpoints(environment={}, start=tmp_path)
