"""Addresses as columns.

One column type (`headers.ADDRESS`, two 64-bit words) holds IPv4 and IPv6; an IPv4 address has its mapped form
::ffff:a.b.c.d there. These functions go between that column, Python integers and text.

Limit: an IPv6 header that really carries a mapped address would print as IPv4. RFC 4291 forbids such headers on the
wire, and RFC 6890 calls the addresses not routable.
"""

import ipaddress
from typing import Any

import numpy as np
import numpy.typing as npt

from .headers import ADDRESS, MAPPED, Bools, Rows

_LOW = (1 << 64) - 1


def from_ints(values: list[int]) -> Rows:
    """128-bit integers (IPv4 already mapped) → ADDRESS[n]."""
    column = np.zeros(len(values), ADDRESS)
    column["hi"] = [value >> 64 for value in values]
    column["lo"] = [value & _LOW for value in values]
    return column


def to_ints(column: Rows) -> list[int]:
    """ADDRESS[n] → 128-bit integers."""
    return [hi << 64 | lo for hi, lo in zip(column["hi"].tolist(), column["lo"].tolist(), strict=True)]


def from_words(hi: object, lo: object, n: int) -> Rows:
    """Two word columns (or constants) → ADDRESS[n]."""
    column = np.empty(n, ADDRESS)
    column["hi"] = hi
    column["lo"] = lo
    return column


def from_ipv4(words: npt.NDArray[Any]) -> Rows:
    """IPv4 addresses as whole numbers of 32 bits → ADDRESS[n], mapped."""
    return from_words(0, words.astype(np.uint64) | np.uint64(MAPPED), len(words))


def from_text(*texts: str) -> Rows:
    """Literal addresses → ADDRESS[n]. Raises ValueError for what is not an address."""
    return from_ints([to_int(ipaddress.ip_address(text)) for text in texts])


def to_int(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> int:
    """One address as a 128-bit integer, IPv4 mapped."""
    return int(address) | MAPPED if address.version == 4 else int(address)


def is_ipv4(column: Rows) -> Bools:
    """Which rows hold a (mapped) IPv4 address."""
    return np.asarray((column["hi"] == 0) & (column["lo"] >> np.uint64(32) == 0xFFFF))


def networks(column: Rows) -> npt.NDArray[np.uint64]:
    """A number for the /24 (IPv4) or /64 (IPv6) of each address, uint64[n]."""
    return np.where(is_ipv4(column), column["lo"] >> np.uint64(8), column["hi"])


def network_text(number: int) -> str:
    """A number of `networks` as text."""
    if number >> 24 == 0xFFFF:
        return word_text(0, number << 8) + "/24"
    return word_text(number, 0) + "/64"


def to_text(column: Rows) -> list[str]:
    """ADDRESS[n] → text, IPv4 dotted, IPv6 compressed (RFC 5952)."""
    return [word_text(hi, lo) for hi, lo in zip(column["hi"].tolist(), column["lo"].tolist(), strict=True)]


def word_text(hi: int, lo: int) -> str:
    """One address, given as two words, as text."""
    if hi == 0 and lo >> 32 == 0xFFFF:
        return f"{lo >> 24 & 255}.{lo >> 16 & 255}.{lo >> 8 & 255}.{lo & 255}"
    return str(ipaddress.IPv6Address(hi << 64 | lo))


def raw_text(raw: bytes) -> str:
    """The 16 bytes of one ADDRESS as text."""
    return to_text(np.frombuffer(raw, ADDRESS))[0]
