"""Whether a log has a hole, asked of the log itself.

A consumer that gives record 9 after record 5 may have been sent elsewhere; a
reader of its own, which begins at 6, sees what is there.
"""

from __future__ import annotations

from services.kit.bus.protocol import Bus, Partition


def goes_on_at(bus: Bus, place: Partition, offset: int, seconds: float) -> int | None:
    """Offset of the first record at or after `offset`, or the end of a partition that has none.

    Blocks, `seconds` at most for the records. None where the log told neither in this time; Retryable
    where it cannot be reached.
    """
    reader = bus.reader({place: offset})
    try:
        records = reader.take(1, seconds)
    finally:
        reader.close()
    if records:
        return records[0].offset
    end = bus.log().ends([place.topic])[place]
    return end if end <= offset else None
