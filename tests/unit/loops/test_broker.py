"""How faust is told to connect: a file that cannot be read is named by its setting."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.kit.errors import Invalid
from services.kit.settings import KafkaSettings
from services.loops.broker import credentials


@pytest.mark.parametrize(
    ("given", "setting"),
    [
        ({"ssl_ca_location": "odd"}, "KAFKA_SSL_CA_LOCATION"),
        ({"ssl_certificate_location": "odd", "ssl_key_location": "odd"}, "KAFKA_SSL_CERTIFICATE_LOCATION"),
    ],
)
def test_an_unreadable_file_is_named_by_its_setting(
    tmp_path: Path, given: dict[str, str], setting: str
) -> None:
    (tmp_path / "odd").write_text("no certificate")
    files = {name: str(tmp_path / file) for name, file in given.items()}
    with pytest.raises(Invalid, match=setting) as caught:
        credentials(KafkaSettings(security_protocol="SSL", **files))  # type: ignore[arg-type]
    assert caught.value.field == setting
