"""Files that others wrote are those that their packages carry."""

from __future__ import annotations

import gzip
import hashlib
import re
from urllib.parse import quote

from services.portal.render import STATIC
from tests.unit.portal.fakes import Browser
from tests.unit.portal.filled import FilledBackend, Filler

_VENDOR = STATIC / "vendor"
LOT = "maker-1/item/granulate/G-0071"


def test_every_vendored_file_is_as_it_was_taken() -> None:
    lines = (_VENDOR / "checksums.txt").read_text().splitlines()
    told = {name: digest for digest, name in (line.split() for line in lines)}
    found = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in _VENDOR.glob("*.js")}
    assert found == told


def test_a_page_with_charts_is_light_enough() -> None:
    """At most 500 kB over a line that compresses, with the chart and everything that it loads."""
    backend = FilledBackend(filler=Filler({"lot": LOT, "tag": "Torque"}))
    page = Browser(backend).get(f"/lots/{quote(LOT, safe='')}/chart/Torque").text
    loaded = re.findall(r'(?:src|href)="/static/([^"?]+)', page)
    assert "vendor/echarts-6.1.0.min.js" in loaded
    files = [page.encode(), *((STATIC / name).read_bytes() for name in set(loaded))]
    assert sum(len(gzip.compress(one)) for one in files) <= 500_000
