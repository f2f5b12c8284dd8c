"""Whether a video file is cut off, told by its bytes: its length in time is that of its sound too.

AVI and MP4 need none of this, for they count their frames; MP4 in fragments does not.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

HEAD_BYTES = 256
"""What is looked at of both ends of a file."""

EBML, SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
"""How Matroska and WebM begin, and what holds all of such a file but its header."""

FLASH = b"FLV"
MP4, FRAGMENT = b"ftyp", b"moof"

TIMED = (b"\0\0\1\xba", b"OggS", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11")
"""How MPEG program streams, Ogg and ASF (WMV) begin, whose length FFmpeg takes from what is there."""
SYNC, PACKET_BYTES, STAMP_BYTES = b"\x47", 188, 4
"""How packets of MPEG transport streams begin, of which the same is true; in M2TS each has a time before it."""


def is_cut_off(path: Path) -> bool | None:
    """Whether bytes are missing at the end of a file; None where it does not say, and for a pipe.

    An end of zeros counts as missing: a download or recorder had reserved its place. False for formats of which a part
    is as good as the whole.
    """
    try:
        if not path.is_file():  # a pipe is gone through
            return None
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
            file.seek(-min(size, HEAD_BYTES), os.SEEK_END)
            tail = file.read()
            if head[4:8] == MP4:
                return _is_cut_mp4(file, size)
            if head.startswith(FLASH):
                file.seek(max(size - 4 - int.from_bytes(tail[-4:], "big"), 0))
                return _is_cut_flash(file.read(4), tail)
    except OSError:
        return None
    if head.startswith(TIMED) or _has_packets(head):
        return False
    return _is_cut_matroska(head, tail, size)


def _has_packets(head: bytes) -> bool:
    """Whether two packets of an MPEG transport stream begin where they should."""
    return any(head[at : at + 1] == head[2 * at + PACKET_BYTES :][:1] == SYNC for at in (0, STAMP_BYTES))


def _is_cut_mp4(file: BinaryIO, size: int) -> bool | None:
    """Where it is in fragments, whether the last box reaches beyond the end, or is none."""
    place, fragments = 0, False
    while place < size:
        file.seek(place)
        head = file.read(16)
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 1:  # the real one follows
            length = int.from_bytes(head[8:16], "big")
        elif length == 0 and kind.strip(b"\0"):  # to the end
            length = size - place
        fragments |= kind == FRAGMENT
        place = place + length if length >= 8 else size + 1
    return place > size if fragments else None


def _is_cut_flash(tag: bytes, tail: bytes) -> bool:
    """Every tag is followed by its size, which is that of its data and 11 more."""
    return int.from_bytes(tag[1:4], "big") + 11 != int.from_bytes(tail[-4:], "big")


def _is_cut_matroska(head: bytes, tail: bytes, size: int) -> bool | None:
    place = head.find(SEGMENT) + len(SEGMENT)
    if not head.startswith(EBML) or place < len(SEGMENT) or place >= len(head):
        return None
    # An element's length: the leading zeros tell how many bytes it has; all ones is one that is unknown.
    more = 8 - head[place].bit_length()
    bits = 7 * (more + 1)
    length = int.from_bytes(head[place : place + more + 1], "big") & ((1 << bits) - 1)
    if length == (1 << bits) - 1:
        return None
    return place + more + 1 + length > size or not tail.strip(b"\0")
