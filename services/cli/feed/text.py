"""How a text file is written: its encoding, and what parts its cells.

Both are found where they can be told without doubt, and asked for where not.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from services.cli.session import Failure

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_BLOCK = 1 << 20
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
#: What people take for a CSV, by its first bytes.
_OTHERS = (
    (b"PK\x03\x04", "it is a workbook or an archive; save the sheet as 'CSV UTF-8'"),
    (b"\xd0\xcf\x11\xe0", "it is an old Excel workbook; save the sheet as 'CSV UTF-8'"),
    (b"\x1f\x8b", "it is packed with gzip; unpack it first"),
    (b"%PDF", "it is a PDF; export the table as CSV"),
)
#: So many characters beyond ASCII are looked at, and so large a share of them must be common Chinese.
_LOOKED_AT = 100_000
_CHINESE_SHARE = 0.8
_SEP = re.compile(r"sep=([,;|\t])\s*", re.IGNORECASE)


def check_is_text(path: Path, head: bytes) -> None:
    """Failure where the first bytes of a file are no text."""
    for magic, told in _OTHERS:
        if head.startswith(magic):
            raise Failure(f"{path} is no CSV and no Parquet: {told}")
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return
    odd = sum(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in head)
    if head and odd > len(head) / 10:
        raise Failure(
            f"{path} is no CSV and no Parquet: it holds binary data. "
            "If it is UTF-16 without a byte order mark, say --encoding utf-16-le"
        )


def encoding_of(path: Path, told: str) -> tuple[str, str]:
    """The encoding (as told, or as found) and the SHA-256 of the file."""
    digest, decoder, bad, read = hashlib.sha256(), codecs.getincrementaldecoder("utf-8")(), -1, 0
    head = b""
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            head = head or block[:4096]
            if bad < 0:
                try:
                    decoder.decode(block)
                except UnicodeDecodeError as error:
                    bad = read + error.start
            read += len(block)
    if told:
        return _known(told), digest.hexdigest()
    check_is_text(path, head)
    for bom, name in _BOMS:
        if head.startswith(bom):
            return name, digest.hexdigest()
    if bad < 0:
        return "utf-8", digest.hexdigest()
    if _is_chinese(path):
        return "gb18030", digest.hexdigest()
    raise Failure(
        f"{path} is not UTF-8 (the byte at {bad} is none of it) and does not look like GB18030 or GBK: "
        "say how it is written, for example --encoding cp1252"
    )


def _known(name: str) -> str:
    try:
        found = codecs.lookup(name)
        b"lot".decode(found.name, errors="replace")
    except (LookupError, UnicodeError):
        raise Failure(f"{name!r} is no text encoding; write for example utf-8, gb18030, cp1252") from None
    return found.name


def _is_chinese(path: Path) -> bool:
    """Does the file decode as GB18030, to characters of which most are everyday ones (GB 2312)?

    Nearly every byte sequence decodes as something: 'mould °C' in Latin-1 does.
    """
    decoder = codecs.getincrementaldecoder("gb18030")()
    beyond = common = 0
    try:
        with path.open("rb") as file:
            while beyond < _LOOKED_AT and (block := file.read(_BLOCK)):
                found = [letter for letter in decoder.decode(block) if letter > "\x7f"]
                beyond += len(found)
                common += sum(_in_gb2312(letter) for letter in found)
    except UnicodeDecodeError:
        return False
    return common >= _CHINESE_SHARE * beyond


def _in_gb2312(letter: str) -> bool:
    try:
        letter.encode("gb2312")
    except UnicodeEncodeError:
        return False
    return True


def said_by_excel(line: str) -> str:
    """The delimiter of Excel's own first line ('sep=;'); empty where the line is another one."""
    found = _SEP.fullmatch(line.strip("\ufeff"))
    return found[1] if found else ""


def delimiter_of(path: Path, lines: Sequence[str]) -> str:
    """What parts the cells of the first lines: that by which most of them have as many as the header."""
    found: dict[str, tuple[float, int]] = {}
    for delimiter in DELIMITERS:
        try:
            widths = [len(row) for row in csv.reader(lines, delimiter=delimiter) if row]
        except csv.Error:
            continue
        if widths and widths[0] > 1:
            found[delimiter] = (widths.count(widths[0]) / len(widths), widths[0])
    if not found:
        return ","
    best = max(found.values())
    ways = [delimiter for delimiter, fit in found.items() if fit == best]
    if len(ways) > 1:
        names = " or ".join(DELIMITERS[way] for way in ways)
        raise Failure(f"{path}: its cells may be parted by {names}: say it with --delimiter")
    return ways[0]
