"""Host specifications and the numbered set, compared with a model made of Python sets."""

import ipaddress
import sys
import time
from bisect import bisect_left
from io import BytesIO, TextIOWrapper
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scanner.errors import UsageError
from scanner.packet.addresses import from_ints, from_text, to_int, to_ints, to_text
from scanner.packet.headers import MAPPED
from scanner.targets.blocks import blocks_of, ranges_of
from scanner.targets.files import read_list
from scanner.targets.hostspace import HostSpace
from scanner.targets.lists import words_of
from scanner.targets.patterns import MOST_BLOCKS
from scanner.targets.spec import parse_hosts

NOT_IPV6 = "is not an IPv6 address, block or range: ports go to -p (in lists: [2001:db8::1]:80), and URLs are not read"

NAMES = {"one.example": ["192.0.2.1"], "two.example": ["2001:db8::2", "192.0.2.2"], "1-2.example": ["192.0.2.12"]}


def resolve(name: str) -> list[str]:
    if name == "broken.example":
        raise OSError("temporary failure in name resolution")
    return NAMES.get(name, [])


def space(*specs: str, exclude: tuple[str, ...] = (), all_addresses: bool = False) -> HostSpace:
    return parse_hosts(specs, exclude, resolve, all_addresses)


def everything(hosts: HostSpace) -> list[str]:
    return to_text(hosts.pick(np.arange(hosts.size, dtype=np.uint64)))


def refusal(*specs: str, exclude: tuple[str, ...] = ()) -> str:
    with pytest.raises(UsageError) as caught:
        space(*specs, exclude=exclude)
    return str(caught.value)


SPECS = [
    (("192.0.2.1",), (), ["192.0.2.1"]),
    (("192.0.2.5/30",), (), ["192.0.2.4", "192.0.2.5", "192.0.2.6", "192.0.2.7"]),
    (("192.0.2.254-",), (), ["192.0.2.254", "192.0.2.255"]),
    (("192.0.2.1-3", "192.0.2.9-9"), (), ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.9"]),
    (("192.0.2.-1",), (), ["192.0.2.0", "192.0.2.1"]),
    (("192.0.2.255-192.0.3.1",), (), ["192.0.2.255", "192.0.3.0", "192.0.3.1"]),
    (("10.0-1.0.7,9",), (), ["10.0.0.7", "10.0.0.9", "10.1.0.7", "10.1.0.9"]),
    (("10.0.0.1,6/31",), (), ["10.0.0.0", "10.0.0.1", "10.0.0.6", "10.0.0.7"]),
    (("192.0.2.*",), ("192.0.2.2-255",), ["192.0.2.0", "192.0.2.1"]),
    (("192.0.2.-",), ("192.0.2.0-253",), ["192.0.2.254", "192.0.2.255"]),
    (("192.0.2.2", "192.0.2.1", "192.0.2.0/30", "192.0.2.1"), ("192.0.2.3",), ["192.0.2.0", "192.0.2.1", "192.0.2.2"]),
    (("2001:db8::/126",), ("2001:db8::1",), ["2001:db8::", "2001:db8::2", "2001:db8::3"]),
    (("2001:db8::ffff:ffff:ffff:ffff-2001:db8:0:1::",), (), ["2001:db8::ffff:ffff:ffff:ffff", "2001:db8:0:1::"]),
    (("2001:db8::1", "192.0.2.1"), (), ["192.0.2.1", "2001:db8::1"]),
    (("::ffff:192.0.2.1", "192.0.2.1"), (), ["192.0.2.1"]),
    (("one.example", "1-2.example"), (), ["192.0.2.1", "192.0.2.12"]),
    (("two.example",), (), ["2001:db8::2"]),
    (("one.example/31",), (), ["192.0.2.0", "192.0.2.1"]),
    (("192.0.2.2/31",), ("two.example",), ["192.0.2.3"]),
]


@pytest.mark.parametrize(("specs", "excludes", "addresses"), SPECS)
def test_spec(specs: tuple[str, ...], excludes: tuple[str, ...], addresses: list[str]) -> None:
    assert everything(space(*specs, exclude=excludes)) == addresses


def test_all_addresses_of_a_name() -> None:
    assert everything(space("two.example", all_addresses=True)) == ["192.0.2.2", "2001:db8::2"]


BAD = [
    ("300.1.1.1", "300 in 300.1.1.1 is not an octet: octets end at 255"),
    ("1.2.3", "1.2.3 is not an IPv4 address: write four octets, and separate targets by spaces"),
    ("1.2.3.4,5.6.7.8", "1.2.3.4,5.6.7.8 is not an IPv4 address: write four octets, and separate targets by spaces"),
    (
        "1.2.3.4-1.2.3.300",
        "1.2.3.4-1.2.3.300 is not an IPv4 address: write four octets, and separate targets by spaces",
    ),
    ("1..3.4", "'' in 1..3.4 is not an octet: write numbers, ranges or *, as in 10.0-3,7.*.1"),
    ("1.2.3.4,", "'' in 1.2.3.4, is not an octet: write numbers, ranges or *, as in 10.0-3,7.*.1"),
    ("1.2.3.4-5-6", "'4-5-6' in 1.2.3.4-5-6 is not an octet: write numbers, ranges or *, as in 10.0-3,7.*.1"),
    ("1.2.3.9-5", "range 1.2.3.9-5 ends before it starts: swap its ends"),
    ("1.2.3.7,9-5", "range 9-5 in 1.2.3.7,9-5 ends before it starts: swap its ends"),
    ("192.0.2.9-192.0.2.5", "range 192.0.2.9-192.0.2.5 ends before it starts: swap its ends"),
    ("2001:db8::9-2001:db8::5", "range 2001:db8::9-2001:db8::5 ends before it starts: swap its ends"),
    ("10.0.0.010", "010 in 10.0.0.010 starts with a zero: write it without, some tools read it as octal"),
    ("10.0.0.0/33", "/33 in 10.0.0.0/33 is not a prefix length: IPv4 blocks go from /0 to /32"),
    ("10.0.0.0/", "/ in 10.0.0.0/ is not a prefix length: IPv4 blocks go from /0 to /32"),
    ("::1/129", f"::1/129 {NOT_IPV6}"),
    ("192.0.2.1:80", f"192.0.2.1:80 {NOT_IPV6}"),
    ("http://a/", f"http://a/ {NOT_IPV6}"),
    ("fe80::1%", "fe80::1% is not an address with a zone: write fe80::1%eth0, or fe80::%eth0/120"),
    ("nobody.example", "cannot resolve 'nobody.example': check the spelling, or give its address"),
    ("broken.example", "cannot resolve 'broken.example': check the spelling, or give its address"),
    ("one.example/33", "/33 in 192.0.2.1/33 is not a prefix length: IPv4 blocks go from /0 to /32"),
    ("a b", "'a b' is not an address, range or host name: write 192.0.2.1, 192.0.2.0/24 or a name"),
    ("2001:db8::/65", "2001:db8::/65: too many addresses, more than 2^62 in all: name smaller blocks"),
    ("::/0", "::/0: too many addresses, more than 2^62 in all: name smaller blocks"),
]


@pytest.mark.parametrize(("spec", "message"), BAD)
def test_bad_spec(spec: str, message: str) -> None:
    assert refusal("192.0.2.77", spec) == message


@pytest.mark.parametrize(("spec", "message"), BAD[:-2])
def test_bad_exclude(spec: str, message: str) -> None:
    assert refusal("192.0.2.77", exclude=(spec,)) == message


def test_octet_patterns_count_towards_the_most_hosts() -> None:
    message = "2001:db8::/66: too many addresses, more than 2^62 in all: name smaller blocks"
    assert refusal("2001:db8::/66", "10.*.*.1") == message


def test_no_target_at_all() -> None:
    assert refusal() == "no targets: name at least one address, range or host name"


def test_everything_excluded() -> None:
    message = "every target was excluded (the largest was 10.0.0.0/31): name other targets or exclude less"
    assert refusal("10.0.0.7", "10.0.0.0/31", exclude=("10.*.*.*",)) == message


def test_huge_excludes_are_fine() -> None:
    assert everything(space("192.0.2.1", "2001:db8::1", exclude=("2000::/3",))) == ["192.0.2.1"]


# ---------------------------------------------------------------- the set and a model


def octet_text(values: set[int]) -> str:
    return ",".join(map(str, sorted(values)))


# Octets from both ends, so that full octets, runs across their borders and single values all occur.
octet_sets = st.sets(st.sampled_from([0, 1, 2, 254, 255]), min_size=1).map(octet_text) | st.just("*") | st.just("1-254")
few_octets = st.sets(st.sampled_from([0, 1, 254]), min_size=1).map(octet_text)
boxes = st.tuples(st.just("10"), st.just("0"), few_octets, octet_sets).map(".".join)
ipv4 = st.tuples(st.sampled_from([0, 1, 2]), st.sampled_from([0, 1, 7, 128, 255]))
cidr = st.tuples(ipv4, st.integers(22, 32)).map(lambda pair: f"10.0.{pair[0][0]}.{pair[0][1]}/{pair[1]}")
ranges = st.tuples(ipv4, ipv4).map(sorted).map(lambda ends: "-".join(f"10.0.{c}.{d}" for c, d in ends))
SIX = (0x20010DB8 << 96) + (1 << 64)
words = st.integers(-20, 20)  # around a border of the low word, where carries happen
six = words.map(lambda word: str(ipaddress.IPv6Address(SIX + word)))
six_cidr = st.tuples(six, st.integers(120, 128)).map(lambda pair: f"{pair[0]}/{pair[1]}")
six_ranges = st.tuples(words, words).map(
    lambda ends: "-".join(str(ipaddress.IPv6Address(SIX + word)) for word in sorted(ends))
)
spec_lists = st.lists(boxes | cidr | ranges | six | six_cidr | six_ranges, max_size=5)


def model(spec: str) -> set[int]:
    """The addresses of one spec, one by one."""
    if "-" in spec and spec.count(".") != 3:
        first, last = (to_int(ipaddress.ip_address(end)) for end in spec.split("-"))
        return set(range(first, last + 1))
    if ":" in spec or "/" in spec:
        network = ipaddress.ip_network(spec, strict=False)
        return {to_int(network[i]) for i in range(network.num_addresses)}
    allowed = [[v for part in octet.split(",") for v in values(part)] for octet in spec.split(".")]
    return {MAPPED | a << 24 | b << 16 | c << 8 | d for a, b, c, d in product(*allowed)}


def values(part: str) -> range:
    low, dash, high = ("0", "-", "255") if part == "*" else part.partition("-")
    return range(int(low), int(high if dash else low) + 1)


def numbers(hosts: HostSpace) -> list[int]:
    return to_ints(hosts.pick(np.arange(hosts.size, dtype=np.uint64)))


def union_of(specs: list[str]) -> set[int]:
    return set().union(*map(model, specs))


@given(include=spec_lists.filter(bool), exclude=spec_lists, bounds=st.tuples(ipv4, ipv4), far=st.booleans())
@settings(max_examples=300)
def test_the_numbered_set_is_the_model(
    include: list[str], exclude: list[str], bounds: tuple[tuple[int, int], tuple[int, int]], far: bool
) -> None:
    expected = union_of(include) - union_of(exclude)
    if not expected:
        assert refusal(*include, exclude=tuple(exclude)).startswith("every target was excluded")
        return
    hosts = space(*include, exclude=tuple(exclude))
    check_numbering(hosts, expected)
    first, last = sorted(MAPPED | 10 << 24 | c << 8 | d for c, d in bounds)
    last = SIX if far else last
    check_numbering(hosts.within([(first, last)]), {address for address in expected if first <= address <= last})
    outside = [(last + 1, (1 << 128) - 1), (0, first - 1)]
    check_numbering(hosts.within(outside), {address for address in expected if not first <= address <= last})


def check_numbering(hosts: HostSpace, expected: set[int]) -> None:
    """Every address has one number, in order; `pick` and `index_of` are inverse; spans are exact."""
    found = numbers(hosts)
    assert (hosts.size, len(hosts), bool(hosts), found) == (len(expected),) * 2 + (bool(expected), sorted(expected))
    near = {address + step for address in expected for step in (-1, 0, 1)} | {0, 1, (1 << 128) - 1, 1 << 64}
    asked = sorted(near | {address ^ 1 << 64 for address in near} | {address & 0xFFFFFFFF for address in near})
    where = {address: number for number, address in enumerate(found)}
    assert hosts.index_of(from_ints(asked)).tolist() == [where.get(address, -1) for address in asked]
    spans = hosts.spans()
    assert all(earlier[1] + 1 < later[0] for earlier, later in pairwise(spans))
    assert expected == {address for first, last in spans for address in range(first, last + 1)}
    assert hosts.below(from_ints(asked)).tolist() == [bisect_left(found, address) for address in asked]


# ---------------------------------------------------------------- size and speed


LARGE = [
    (("10.0.0.0/8",), (), 1 << 24),
    (("0.0.0.0/0",), (), 1 << 32),
    (("0-7.0-255.0-255.1,3",), (), 2 << 19),
    (("::fffe:ffff:fffe-::ffff:255.255.255.255",), ("0-15.*.*.1",), 2 + (1 << 32) - (1 << 20)),
    (("0-3.*.*.1,2", "0-3.*.3.*", "0-3.*.*.2"), (), 1024 * (256 + 255 * 2)),
    (("0-3.*.*.1", "1.*.*.*", "*.2.*.*"), (), (1 << 24) + (255 << 16) + 3 * (255 << 8)),
    (("0.0.0.0/0", "2001:db8::/67"), ("0-7.*.*.0,255", "10.0.0.0/8"), (1 << 61) + (255 << 24) - (2 << 19)),
    (("2001:db8::/66",), ("2001:db8::1", "10-20.*.*.1"), (1 << 62) - 1),
    (("8-12.*.*.0-9",), ("10.0.0.0/8", "*.7.*.5"), 4 * (256 * 256 * 10 - 256)),
]


@pytest.mark.parametrize(("specs", "excludes", "size"), LARGE)
def test_large_sets_are_exact(specs: tuple[str, ...], excludes: tuple[str, ...], size: int) -> None:
    hosts = space(*specs, exclude=excludes)
    sample = np.unique(np.random.default_rng(1).integers(0, hosts.size, 5000, np.int64))
    address = hosts.pick(sample.astype(np.uint64))
    assert (hosts.size, len(np.unique(address)), hosts.index_of(address).tolist()) == (
        size,
        len(sample),
        sample.tolist(),
    )


def test_excluded_addresses_of_a_pattern_are_not_in_the_set() -> None:
    hosts = space("8-12.*.*.1,3", exclude=("10.0.0.0/8", "*.*.7.3"))
    asked = from_text("9.0.0.1", "9.0.0.2", "9.0.7.3", "10.0.0.1", "12.255.255.3", "::900:1", "2001:db8::1")
    inside = hosts.index_of(asked)[[0, 4]]
    assert (to_text(hosts.pick(inside)), (hosts.index_of(asked) >= 0).tolist()) == (
        ["9.0.0.1", "12.255.255.3"],
        [True, False, False, False, True, False, False],
    )


def test_a_block_may_cross_a_word_border() -> None:
    hosts = space("2001:db8::1", "2001:db8::ffff:ffff:ffff:fffe-2001:db8:0:1::1")
    asked = from_text("2001:db8:0:1::1", "2001:db8:0:1::", "2001:db8::ffff:ffff:ffff:ffff", "2001:db8:0:1::2")
    assert hosts.index_of(asked).tolist() == [4, 3, 2, -1]


def test_a_set_may_reach_to_the_last_of_all_addresses() -> None:
    hosts = space("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/127", "192.0.2.1")
    last = (1 << 128) - 1
    assert numbers(hosts) == [to_int(ipaddress.ip_address("192.0.2.1")), last - 1, last]
    assert (hosts.spans()[1], hosts.within([(last, last)]).size, hosts.count(blocks_of(ranges_of([(5, last)])))) == (
        (last - 1, last),
        1,
        3,
    )
    assert numbers(hosts.without(blocks_of(ranges_of([(last, last)])))) == numbers(hosts)[:2]


def test_equal_sets_have_one_digest() -> None:
    same = [["10.0.0.0/31", "::1-::2"], ["::2", "10.0.0.1", "::1", "10.0.0.0"]]
    unlike = [["10.0.0.0/31"], ["10.0.0.0", "10.0.0.2"], ["::1-::2"], ["10.0.0.0/30"], ["::a00:0-::a00:1"]]
    digests = [space(*specs).digest() for specs in same + unlike]
    assert (len(set(digests[:2])), len(set(digests)), {len(digest) for digest in digests}) == (1, 6, {16})


def test_the_largest_pattern_is_quick() -> None:
    begun = time.process_time()
    hosts = space("0-15.*.*.1", exclude=("7.0.0.0/8",))
    assert (hosts.size, len(hosts.spans()), time.process_time() - begun < 5) == (15 << 16, 15 << 16, True)


REMEDY = "give fewer values in the first octets, or whole blocks"
TOO_MANY = [
    (("*.*.*.1",), "*.*.*.1", 1 << 24),
    (("0-16.*.*.1",), "0-16.*.*.1", 17 << 16),
    (("0-15.*.*.1", "1.2-3.*.4"), "1.2-3.*.4", (1 << 20) + 512),
    (("0-255.0-255.0-255.1,3",), "0-255.0-255.0-255.1,3", 2 << 24),
]


@pytest.mark.parametrize(("specs", "culprit", "blocks"), TOO_MANY)
def test_patterns_of_too_many_blocks(specs: tuple[str, ...], culprit: str, blocks: int) -> None:
    message = (
        f"{culprit}: octet ranges may make {MOST_BLOCKS:,} separate blocks of addresses, "
        f"here they make {blocks:,}: {REMEDY}"
    )
    assert (refusal(*specs), refusal("192.0.2.1", exclude=specs)) == (message, message)


def test_a_hundred_thousand_excludes_are_quick() -> None:
    starts = np.random.default_rng(2).permutation(1 << 20)[:100_000].tolist()
    excludes = [f"{v >> 12}.{v >> 4 & 255}.{(v & 15) << 4}.0/28" for v in starts]
    begun = time.process_time()
    hosts = parse_hosts(["0.0.0.0/0"], excludes, resolve)
    address = hosts.pick(np.arange(0, hosts.size, 40_000, dtype=np.uint64))
    took = time.process_time() - begun
    assert (hosts.size, len(np.unique(address)), took < 2) == ((1 << 32) - 1_600_000, len(address), True)


# ---------------------------------------------------------------- list files


def test_read_list(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xef\xbb\xbf# a list\r\n192.0.2.1\t192.0.2.2 # two\r\n\r\n  two.example#three\nlast\xff")
    assert words_of(b"".join(lines.text for lines in read_list(str(path)))) == [
        "192.0.2.1",
        "192.0.2.2",
        "two.example",
        "last\\xff",
    ]


def test_read_list_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(b"192.0.2.1\n192.0.2.2\n")))
    assert words_of(b"".join(lines.text for lines in read_list("-"))) == ["192.0.2.1", "192.0.2.2"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "cannot read the list {}: No such file or directory"),
        (".", "cannot read the list {}: Is a directory"),
        ("empty", "the list {} is empty: write one address, range or host name a line, or leave it out"),
    ],
)
def test_unreadable_list(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "empty").write_text("# nothing but a remark\n\n")
    path = str(tmp_path / name)
    with pytest.raises(UsageError) as caught:
        list(read_list(path))
    assert str(caught.value) == message.format(path)
