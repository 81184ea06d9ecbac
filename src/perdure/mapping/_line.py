"""What the lines of journals and snapshots have in common: the time as people write it, and the checksum at the end.

A line is one JSON object. Its last field is ``check``: eight hexadecimal digits, the CRC-32 of everything in the line
before ``,"check"``. Somebody who edits a line takes the field away; a line without it is believed.
"""

from __future__ import annotations

import datetime
from zlib import crc32

from perdure.clock import from_ns

_CHECK_BYTES = len(b',"check":"00000000"}')
SECOND_NS = 1_000_000_000


def sealed(start: bytes, salt: int = 0) -> bytes:
    """The whole line of an object whose text, without the closing brace, is ``start``; ``salt`` as in records."""
    return b'%b,"check":"%08x"}\n' % (start, crc32(start, salt))


def is_intact(line: bytes, salt: int = 0) -> bool | None:
    """Whether a line's checksum is right; ``None`` where it does not end with one. ``line``: without the newline."""
    if line[-_CHECK_BYTES:-10] != b',"check":"' or line[-2:] != b'"}':
        return None
    return b"%08x" % crc32(line[:-_CHECK_BYTES], salt) == line[-10:-2]


class Times:
    """Nanoseconds since the epoch ↔ ``2026-01-31T12:00:00.000000001+01:00``; the second is kept from one to the next.

    Any thread may call: what is kept is replaced as a whole.
    """

    def __init__(self) -> None:
        self.written: tuple[int, int, bytes, bytes] = (-SECOND_NS, 0, b"", b"")
        self._read: tuple[str, str, int, int] = ("", "", 0, 0)

    def text(self, at_ns: int, utc_offset_min: int) -> bytes:
        known = self.written
        rest_ns = at_ns - known[0]
        if not 0 <= rest_ns < SECOND_NS or known[1] != utc_offset_min:
            second_ns = at_ns // SECOND_NS * SECOND_NS
            rest_ns = at_ns - second_ns
            zone = datetime.timezone(datetime.timedelta(minutes=utc_offset_min))
            text = from_ns(second_ns).astimezone(zone).isoformat()
            known = self.written = second_ns, utc_offset_min, text[:19].encode(), text[19:].encode()
        return b"%b.%09d%b" % (known[2], rest_ns, known[3])

    def read(self, text: str) -> tuple[int, int]:
        """Nanoseconds since the epoch, and the offset from UTC in minutes. Raises ``ValueError``."""
        start, rest, end = text[:19], text[19:29], text[29:]
        known = self._read
        if known[0] != start or known[1] != end:
            at = datetime.datetime.fromisoformat(start + end)
            offset = at.utcoffset()
            if offset is None:
                raise ValueError("a time without its offset from UTC")
            seconds = round((at - _EPOCH).total_seconds())
            known = self._read = start, end, seconds, round(offset.total_seconds() / 60)
        if len(rest) != 10 or rest[0] != "." or not rest[1:].isdigit():
            raise ValueError("nine digits belong behind the seconds")
        return known[2] * SECOND_NS + int(rest[1:]), known[3]


_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
