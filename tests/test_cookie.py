"""The hash gives its authors' published values, and the cookie depends on every bit of the flow."""

import numpy as np
import pytest

from scanner.packet.addresses import from_ints, from_text, to_text
from scanner.packet.cookie import Key, sequence, siphash
from scanner.packet.headers import Rows
from tests.builders import KEY, OUR_PORT, THEIR_PORT, THEM

# SipHash-2-4 with 64 bits of output, key 00 01 … 0f, message 00 01 02 … of so many bytes: the published vectors.
VECTORS = {
    8: 0x93F5F5799A932462,
    16: 0x3F2ACC7F57C29BDB,
    24: 0xB8AD50C6F649AF94,
    32: 0x7127512F72F27CCE,
    40: 0x0E3EA96B5304A7D0,
}


def cookie(key: Key, version: int, target: Rows, target_port: int, our_port: int) -> int:
    return int(sequence(key, version, target, np.array([target_port], np.uint16), our_port)[0])


@pytest.mark.parametrize("size", VECTORS)
def test_published_vectors(size: int) -> None:
    words = [np.array([word, 0, word], np.uint64) for word in np.frombuffer(bytes(range(size)), "<u8")]
    out = siphash(Key.from_bytes(bytes(range(16))), words)
    assert (out[0], out[2], out[1] != out[0]) == (VECTORS[size], VECTORS[size], True)


def test_key_words_are_little_endian() -> None:
    assert Key.from_bytes(bytes(range(16))) == Key(0x0706050403020100, 0x0F0E0D0C0B0A0908)


@pytest.mark.parametrize(
    ("version", "words"),
    [(4, [0xC6120107_01BB_9C40]), (6, [0x20010DB8_00010000, 0x7, 0x01BB_9C40])],
    ids=["ipv4: one word", "ipv6: three words"],
)
def test_what_is_hashed(version: int, words: list[int]) -> None:
    """A scan that is resumed, perhaps by another version, must compute the same cookies."""
    expected = int(siphash(KEY, [np.array([word], np.uint64) for word in words])[0]) & 0xFFFFFFFF
    assert cookie(KEY, version, from_text(THEM[version]), THEIR_PORT, OUR_PORT) == expected


@pytest.mark.parametrize("version", [4, 6])
def test_any_flipped_bit_gives_another_cookie(version: int) -> None:
    target = from_text(THEM[version])
    number = (int(target["hi"][0]) << 64) | int(target["lo"][0])
    seen = {cookie(KEY, version, target, THEIR_PORT, OUR_PORT)}
    bits = 32 if version == 4 else 128
    seen |= {cookie(KEY, version, from_ints([number ^ 1 << bit]), THEIR_PORT, OUR_PORT) for bit in range(bits)}
    seen |= {cookie(KEY, version, target, THEIR_PORT ^ 1 << bit, OUR_PORT) for bit in range(16)}
    seen |= {cookie(KEY, version, target, THEIR_PORT, OUR_PORT ^ 1 << bit) for bit in range(16)}
    seen |= {cookie(Key(KEY.k0 ^ 1 << bit, KEY.k1), version, target, THEIR_PORT, OUR_PORT) for bit in range(64)}
    seen |= {cookie(Key(KEY.k0, KEY.k1 ^ 1 << bit), version, target, THEIR_PORT, OUR_PORT) for bit in range(64)}
    assert len(seen) == 1 + bits + 16 + 16 + 128


@pytest.mark.parametrize("version", [4, 6])
def test_a_column_gives_what_each_row_gives_alone(version: int) -> None:
    targets = from_ints([(0xFFFF_0000_0000 if version == 4 else 1 << 125) + 977 * i for i in range(50)])
    target_ports, our_ports = np.arange(50, dtype=np.uint16) * 1300, np.arange(60000, 60050, dtype=np.uint16)
    alone = [cookie(KEY, version, targets[[i]], int(target_ports[i]), int(our_ports[i])) for i in range(50)]
    assert sequence(KEY, version, targets, target_ports, our_ports).tolist() == alone


def test_arguments_are_not_changed() -> None:
    target, ports = from_text(THEM[4]), np.array([THEIR_PORT], np.uint16)
    sequence(KEY, 4, target, ports, OUR_PORT)
    assert (to_text(target), ports.tolist()) == ([THEM[4]], [THEIR_PORT])
