"""Records, documents and the manifest go into files and come back; what is broken is named."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import bson
import pytest
from bson.raw_bson import RawBSONDocument

from services.cli.backup import dumps, manifest, segments, work
from services.cli.backup.manifest import Broken, Collection, Manifest, Partition, Topic
from services.cli.backup.segments import Kept
from services.cli.session import Failure

AT = datetime(2026, 11, 27, 12, tzinfo=UTC)
RECORDS = [
    Kept(5, 1_700_000_000_000, b"lot", b"\x00\xff", (("ce_id", b"1"), ("ce_id", b"2"), ("empty", None))),
    Kept(6, 1_700_000_000_001, None, None),
    Kept(9, 1_700_000_000_002, b"", b"x" * 1000),
]


def raw(*documents: dict[str, object]) -> list[RawBSONDocument]:
    return [RawBSONDocument(bson.encode(one)) for one in documents]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A backup of one collection and one partition."""
    made = tmp_path / "backup"
    file, about = "databases/pharmaloop_a/lot.bson.gz", "databases/pharmaloop_a/lot.metadata.json.gz"
    digest = dumps.write(made / file, raw({"_id": "1", "v": 1}, {"_id": "2", "s": {"x": [1.5, None]}}))
    dumps.write_about(made / about, {"indexes": [{"v": 2, "key": {"_id": 1}, "name": "_id_"}], "options": {}})
    writer = segments.Writer(made / "topics" / "t" / "0", segment_bytes=10)
    for record in RECORDS:
        writer.write(record)
    writer.close()
    files = tuple(path.relative_to(made).as_posix() for path in writer.files)
    paths = sorted(path for path in made.rglob("*") if path.is_file())
    manifest.write(
        made,
        Manifest(
            manifest.FORMAT,
            "1.0",
            "abc",
            AT,
            AT,
            AT,
            AT,
            (Collection("pharmaloop_a", "lot", digest.documents, digest.text, file, about),),
            (Topic("t", (Partition(0, 5, 12, 3, files), Partition(1, 4, 4, 0))),),
            (),
            tuple(manifest.noted(made, path) for path in paths),
        ),
    )
    return made


def test_records_come_back_as_they_were(folder: Path) -> None:
    files = sorted((folder / "topics" / "t" / "0").iterdir())
    assert [file.name[:20] for file in files] == [f"{offset:020d}" for offset in (5, 6, 9)]
    assert [record for file in files for record in segments.read(file)] == RECORDS


def test_documents_come_back_byte_for_byte_whatever_is_in_them(tmp_path: Path) -> None:
    document = bson.encode({"_id": 1, "d": 0.1, "l": bson.Int64(2), "b": b"\x00", "n": {"z": 1, "a": AT}})
    dumps.write(tmp_path / "x.bson.gz", [RawBSONDocument(document)])
    assert [one.raw for one in dumps.read(tmp_path / "x.bson.gz")] == [document]


def test_the_digest_of_documents_is_of_the_set_and_not_of_their_order(tmp_path: Path) -> None:
    one, two = raw({"_id": 1}), raw({"_id": 2})
    assert dumps.write(tmp_path / "a", one + two).text == dumps.write(tmp_path / "b", two + one).text
    assert dumps.write(tmp_path / "c", one).text != dumps.write(tmp_path / "d", two).text
    assert dumps.write(tmp_path / "e", one + one).text != dumps.write(tmp_path / "f", one).text


def test_a_whole_backup_is_found_whole(folder: Path) -> None:
    found = work.verify(folder)
    assert (found.documents, found.records) == (2, 3)
    assert manifest.read(folder) == found


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def altered(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("harm", [cut_short, altered, Path.unlink])
def test_a_file_that_is_not_as_it_was_is_refused_by_its_name(
    folder: Path, harm: Callable[[Path], None]
) -> None:
    for path in sorted(path for path in folder.rglob("*") if path.suffix in (".gz", ".zst")):
        content = path.read_bytes()
        harm(path)
        with pytest.raises(Broken) as refused:
            manifest.check(folder, manifest.read(folder))
        assert str(path) in refused.value.message
        assert refused.value.next_step
        path.write_bytes(content)
    manifest.check(folder, manifest.read(folder))


@pytest.mark.parametrize("name", [manifest.MANIFEST, manifest.SEAL])
def test_a_manifest_that_was_altered_is_refused(folder: Path, name: str) -> None:
    altered(folder / name)
    with pytest.raises(Broken, match=manifest.MANIFEST):
        manifest.read(folder)


def test_a_folder_without_a_manifest_is_no_backup(folder: Path) -> None:
    (folder / manifest.MANIFEST).unlink()
    with pytest.raises(Failure, match="is no backup"):
        manifest.read(folder)


def test_a_backup_of_another_format_is_left_to_the_build_that_made_it(folder: Path) -> None:
    manifest.write(folder, replace(manifest.read(folder), format=manifest.FORMAT + 1))
    with pytest.raises(Failure, match="format 2") as refused:
        manifest.read(folder)
    assert "build that made it" in refused.value.next_step


def test_files_that_are_whole_but_hold_something_else_than_is_told_are_found(folder: Path) -> None:
    """A backup whose digests fit, and whose content does not: made by a program that was wrong."""
    found = manifest.read(folder)
    wrong = replace(found, topics=(Topic("t", (replace(found.topics[0].partitions[0], records=4),)),))
    manifest.write(folder, wrong)
    with pytest.raises(Broken, match="t, partition 0: 3 records and not the 4"):
        work.verify(folder)
    manifest.write(folder, replace(found, collections=(replace(found.collections[0], documents=3),)))
    with pytest.raises(Broken, match=r"lot\.bson\.gz"):
        work.verify(folder)


def test_what_ends_inside_a_record_or_a_document_is_told(tmp_path: Path) -> None:
    import pyarrow as pa

    segment = tmp_path / "s.seg.zst"
    segment.write_bytes(pa.compress(b"\x00\x00\x00\x09abc", codec="zstd", asbytes=True))
    with pytest.raises(Broken, match=r"s\.seg\.zst ends inside a record"):
        list(segments.read(segment))
    file = tmp_path / "d.bson.gz"
    file.write_bytes(gzip.compress(bson.encode({"_id": 1})[:-2]))
    with pytest.raises(Broken, match=r"d\.bson\.gz cannot be unpacked"):
        list(dumps.read(file))
