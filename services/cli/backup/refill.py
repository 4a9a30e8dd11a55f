"""How the offsets of a partition come back: pure.

A log gives out offsets one after the other, and every position that a database
has noted is one. So whatever the old partition lacks has to be taken up too:

- before its first record (retention had deleted what stood there): empty
  records, which are deleted again before anybody reads;
- between two records (compaction had taken some out) and behind the last:
  copies of the record that follows, or of the last one. A copy has key, id and
  bytes of its original; every receiver drops what it has had, and compaction
  takes it out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from services.cli.backup.manifest import Broken
from services.cli.backup.segments import Kept


def before(first: int, end: int, records: int) -> int:
    """So many empty records stand before the first: all, where the partition had none left."""
    return first if records else end


def laid_out(records: Iterable[Kept], first: int, end: int, where: str) -> Iterator[Kept]:
    """One record for each offset from `first` up to `end`, under the offset that it gets.

    Broken where the records are not in order, or reach beyond.
    """
    at, last = first, None
    for record in records:
        if not at <= record.offset < end:
            raise Broken(f"{where}: offset {record.offset} stands out of order")
        while at <= record.offset:
            yield record._replace(offset=at)
            at += 1
        last = record
    while last is not None and at < end:
        yield last._replace(offset=at)
        at += 1
