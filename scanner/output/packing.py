"""Compressed files whose every written piece is whole.

A gzip file may be several members one after the other (RFC 1952, section 2.2), and every reader takes
them as one text. So each write becomes a member of its own: a killed scan leaves a file that can be
read to the last write, a torn member can be cut off, and a resumed scan goes on behind a length that was noted
down, without having to know what the compressor knew. One long stream with flushes in it
would be a few per cent smaller and could be neither cut nor continued.

The price is 20 bytes and a fresh dictionary for each write; writes are thousands of rows where rows come
fast. Level 3 packs 2.4 M verdicts/s fifteenfold; level 9 0.2 M/s, and a fifth smaller.
"""

import zlib

SUFFIX = ".gz"
_LEVEL = 3
_GZIP_WRAPPER = 31  # zlib's window bits: the largest window, with gzip's header and checksum


def pack(data: bytes) -> bytes:
    """One gzip member; the same bytes give the same member, because no time stamp goes in."""
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP_WRAPPER)
    return packer.compress(data) + packer.flush()


def split_suffix(path: str) -> tuple[str, bool]:
    """`scan.csv.gz` → (`scan.csv`, True): the name that says the format, and whether the file is packed."""
    packed = path.lower().endswith(SUFFIX)
    return (path[: -len(SUFFIX)] if packed else path), packed
