"""Target lists in bulk: each line means what the grammar makes of it word by word, also where a list is cut."""

import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scanner.config import TargetOptions, choice_of
from scanner.errors import UsageError
from scanner.targets import files
from scanner.targets.blocks import (
    EVERYTHING,
    Blocks,
    Span,
    blocks_of,
    inside,
    joined,
    outside,
    ranges_of,
    size_of,
    spans_of,
    union,
)  # fmt: skip
from scanner.targets.files import read_list
from scanner.targets.lists import read_lines, words_of
from scanner.targets.spec import Specs, parse_hosts, parse_targets

NAMES = {"one.example": ["192.0.2.1"], "six.example": ["2001:db8::6"], "müller.example": ["192.0.2.9"]}


def resolve(name: str) -> list[str]:
    return NAMES.get(name, [])


def meaning(targets: Specs, excludes: Specs = ()) -> object:
    """Everything that a list leads to: hosts and targets as written, or the message."""
    try:
        chosen = parse_targets(targets, excludes, resolve, around=EVERYTHING)
    except UsageError as error:
        return str(error)
    return chosen.hosts.spans(), sorted(chosen.written.spans())


NUMBERS = "00 01 007 0 255 256 260 999 1000 00000000001 4294967297 +1 1_0 0x1 ٣ １ * 1-2 1,3"
TAILS = (
    "-10.0.1/9 -10.0/1.9 -10-0.1.9 -10.0.1-9 / /33 /032 /08 /4294967296 /-1 /٣ - --1 -256 -01 /24-5 -5/24 . .. ,7 :80"
)
OTHERS = (
    "one.example six.example/127 müller.example 2001:db8::1 2001:DB8::/126 2001:db8::1-2001:db8::9 ::ffff:10.0.0.1 "
    "::fffe:0:0-::ffff:9.9.9.9 ::/120 10.0-1.0.7,9 10.*.0.1 10.0.0.1,6/31 192.0.2.254-"
)
BROKEN = (
    "nobody.example 300.1.1.1 1.2.3 1.2.3.4.5 .1.2.3.4 1.2.3.4. -1.2.3.4 a1.2.3.4 1.2.3.4a ::g fe80::1%eth0 1.2.3.9-5 "
    "9.0.0.0-8.0.0.0 http://1.2.3.4 \ufffd \x7f 1.2.3.4\x00 1.2.3.4\u200b 1.2.3.4;"
)
octets = st.integers(0, 255).map(str)
numbers = octets | st.sampled_from(NUMBERS.split(" "))
addresses = st.lists(octets, min_size=4, max_size=4).map(".".join)
strange_addresses = st.lists(octets | numbers, min_size=3, max_size=5).map(".".join)
lengths = st.integers(0, 32).map(str)
tails = (
    st.just("")
    | lengths.map(lambda text: "/" + text)
    | octets.map(lambda text: "-" + text)
    | addresses.map(lambda text: "-" + text)
)
strange_tails = tails | st.sampled_from(TAILS.split(" "))
plain = st.tuples(addresses, tails).map("".join)
ascending = st.tuples(addresses, addresses).map(
    lambda ends: "-".join(sorted(ends, key=lambda text: [int(octet) for octet in text.split(".")]))
)
others, broken = st.sampled_from(OTHERS.split(" ")), st.sampled_from(BROKEN.split(" "))
usual_words = addresses | addresses | plain.filter(lambda text: "-" not in text) | ascending | others
any_words = usual_words | plain | st.tuples(strange_addresses, strange_tails).map("".join) | broken
blanks = st.sampled_from([" ", " ", "\t", "  ", "\u00a0", "\u3000", "\x1f"])
comments = st.sampled_from(
    ["", "", "", "#", "# 1.2.3.4", " #ünï 1.2.3.4", "#a#b", "# \x0b 10.9.8.7", "#\u2028 10.9.8.6"]
)
ends = st.sampled_from(["\n", "\n", "\r\n", "\r", "\n\n", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\n \n"])


def lists(words: st.SearchStrategy[str]) -> st.SearchStrategy[bytes]:
    parts = st.tuples(blanks | st.just(""), words, blanks | st.just(""), words | st.just(""), comments, ends).map(
        "".join
    )
    return st.lists(parts | st.tuples(words, st.just("\n")).map("".join), max_size=12).map(
        lambda texts: "".join(texts).encode()
    )


texts = st.text(st.sampled_from("0129./-,*:#\n\r \tax%\x1c\x85é"), max_size=60).map(str.encode)
mutated = st.tuples(lists(any_words), st.integers(0, 400), st.binary(max_size=2)).map(
    lambda parts: parts[0][: parts[1]] + parts[2] + parts[0][parts[1] :]
)


@given(lists(usual_words) | lists(any_words) | mutated | texts)
@settings(max_examples=600)
@example(b"192.0.2.1/0#\n")
@example(b"#\r1.2.3.4")
@example("1.2.3.4#é\x855.6.7.8\n9.9.9.9".encode())
@example(b"1.2.3.4-5.6.7.8-9")
@example(b"1.2.3.4 \xff\n")
@example(b"0.0.0.0/0 255.255.255.255")
def test_lines_in_bulk_mean_what_their_words_mean(lines: bytes) -> None:
    assert meaning([lines]) == meaning(words_of(lines))


ALONE = [
    *OTHERS.split(" "), *BROKEN.split(" "),
    *("10.0.0.8" + tail for tail in (*TAILS.split(" "), "", "/0", "/32", "-255", "-7", "-10.0.1.0", "-10.0.0.7")),
    *(".".join(["1"] * at + [octet] + ["1"] * (3 - at)) for at in range(4) for octet in NUMBERS.split(" ")),
]  # fmt: skip


@pytest.mark.parametrize("word", ALONE)
def test_a_word_means_the_same_in_a_list(word: str) -> None:
    for lines in (f"10.9.9.9 {word}", f"{word}#", f"\t{word}\r\n10.9.9.9"):
        assert meaning([lines.encode()]) == meaning(words_of(lines.encode()))


ALL = ["0.0.0.0/0", "::/1", "8000::/1"]


@given(lists(usual_words))
@settings(max_examples=200)
@example(b"2001:db8::1\n10.0.0.1")
@example(b"10.0.0.1 one.example 10.0.0.2/31 six.example/127")
def test_the_largest_target_is_the_same(lines: bytes) -> None:
    """It is named if everything is excluded."""
    assert meaning([lines], ALL) == meaning(words_of(lines), ALL)


@given(lists(any_words) | texts, st.integers(1, 40))
@settings(max_examples=200, deadline=None)
def test_a_list_is_cut_between_lines(tmp_path_factory: pytest.TempPathFactory, lines: bytes, piece: int) -> None:
    path = tmp_path_factory.mktemp("lists") / "list"
    path.write_bytes(b"\xef\xbb\xbf10.0.0.1\n" + lines)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(files, "PIECE", piece)
        pieces = [lines.text for lines in read_list(str(path))]
    assert [word for each in pieces for word in words_of(each)] == ["10.0.0.1", *words_of(lines)]


PLAIN = b"10.0.0.1\n10.0.0.2/31 # two\r\n\r10.0.0.3-9\t10.0.0.9-10.0.1.0\n  0.0.0.0/0\n255.255.255.255"


def test_plain_words_are_all_taken_in_bulk() -> None:
    words = read_lines(PLAIN)
    assert (words.others, len(words.ranges.ipv4), words.largest, words.most) == ([], 6, "0.0.0.0/0", 1 << 32)


def test_other_words_are_handed_back_in_order() -> None:
    words = read_lines("b 10.0.0.1 a\né 10.0.0.2\n10.0.0.010 10.0.0.0/24 10.0.0.9-8".encode())
    assert (words.others, words.before) == (["b", "a", "é", "10.0.0.2", "10.0.0.010", "10.0.0.9-8"], 5)


LINES = 1 << 18


def scattered() -> bytes:
    """Addresses of which no two touch, in no order."""
    number = np.random.default_rng(3).permutation(LINES) * 4 + (11 << 24)
    return "\n".join(f"{n >> 24}.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}" for n in number.tolist()).encode()


@pytest.mark.parametrize(
    "line", [b"10.0.0.1\n", b"10.0.0.0/30 # four\r\n", b" 10.0.0.1-9\t10.0.0.3-10.0.0.4\n", b"2001:db8::1\n"]
)
def test_no_function_is_called_for_each_line(line: bytes) -> None:
    """So the time of ten million lines is that of numpy and of the system."""
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        parse_hosts([line * 20_000], [], resolve)
    finally:
        sys.setprofile(None)
    assert calls < 20_000


def test_the_memory_of_a_long_list(tmp_path: Path) -> None:
    """12 bytes for an IPv4 range when all is read, and not much more while it is read."""
    path = tmp_path / "list"
    path.write_bytes(scattered())
    choice_of(TargetOptions(targets=("10.0.0.1",)))  # imports
    tracemalloc.start()
    choice = choice_of(TargetOptions(targets_file=(str(path),)))
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (choice.hosts.size, held / LINES < 16, peak / LINES < 40 + (32 << 20) / LINES) == (LINES, True, True)


def test_the_memory_of_ipv6_ranges() -> None:
    lines = "\n".join(f"{n:x}::" for n in range(1 << 12, 1 << 16)).encode()
    tracemalloc.start()
    hosts = parse_targets([lines], [], resolve).hosts
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (hosts.size, held / hosts.size < 32) == (61440, True)


# ---------------------------------------------------------------- sets of addresses, against a model


FOUR, BEYOND, TOP = 0xFFFF_0000_0000, 0x1_0000_0000_0000, 1 << 128
BORDERS = (0, FOUR, BEYOND, TOP - 1, FOUR + (1 << 31), 1 << 64, 1 << 100)
POINTS = sorted({min(max(0, border + step), TOP - 1) for border in BORDERS for step in range(-8, 9)})
numbers_near = st.tuples(st.sampled_from(BORDERS), st.integers(-6, 6)).map(lambda pair: min(max(0, sum(pair)), TOP - 1))
spans_lists = st.lists(st.tuples(numbers_near, numbers_near).map(lambda ends: (min(ends), max(ends))), max_size=6)


def model(spans: list[Span]) -> list[int]:
    """Which of the addresses near borders are in the set: enough, because every edge is near one."""
    return [point for point in POINTS if any(first <= point <= last for first, last in spans)]


@given(spans_lists, spans_lists)
@settings(max_examples=400)
def test_operations_on_sets(ours: list[Span], theirs: list[Span]) -> None:
    a, b = (blocks_of(joined([ranges_of(spans[:3]), ranges_of(spans[3:])])) for spans in (ours, theirs))
    results: list[Blocks] = [a, outside(a, b), inside(a, b), union(a, b)]
    expected = [
        set(model(ours)), set(model(ours)) - set(model(theirs)), set(model(ours)) & set(model(theirs)),
        set(model(ours)) | set(model(theirs)),
    ]  # fmt: skip
    listed = [spans_of(result) for result in results]
    assert [set(model(spans)) for spans in listed] == expected
    assert [size_of(result) for result in results] == [
        sum(last - first + 1 for first, last in spans) for spans in listed
    ]


@pytest.mark.parametrize("line", [b"a" * (17 << 20), b"#" + b"a" * (17 << 20)], ids=["word", "comment"])
def test_a_line_without_an_end_is_refused(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_bytes(line)
    with pytest.raises(UsageError, match="more than 16 MB"):
        list(read_list(str(path)))
