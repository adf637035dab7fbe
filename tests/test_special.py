"""Which addresses a scan leaves out, which ones need a confirmation, and which ports are popular."""

from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path

import pytest

from scanner.errors import UsageError
from scanner.targets.blocks import EVERYTHING
from scanner.targets.files import nmap_services
from scanner.targets.popular import POPULAR
from scanner.targets.ports import top_ports
from scanner.targets.spec import parse_hosts, parse_targets
from scanner.targets.special import any_public, choose, entries, guard, public_hosts, skipped_text


def resolve(name: str) -> list[str]:
    return {"localhost": ["127.0.0.1", "::1"], "far": ["1.1.1.1"]}.get(name, [])


# targets, excludes, hosts left, [(block, addresses taken)]
TAKEN = [
    (["198.18.0.0/24"], [], 256, []),
    (["127.0.0.1", "::1", "224.0.0.1", "fe80::1"], [], 4, []),
    (["localhost"], [], 1, []),
    (["10.0.0.0/7"], [], 1 << 25, []),
    (["172.16.0.0/12", "fc00::/100"], [], (1 << 20) + (1 << 28), []),
    (["126.255.255.254-127.0.0.1"], [], 2, [("127.0.0.0/8", 2)]),
    (["126.255.255.254-127.0.0.1", "127.0.0.1"], [], 3, [("127.0.0.0/8", 1)]),
    (["126.255.255.254-127.0.0.1"], ["127.0.0.0/8"], 2, []),
    (["192.0.0.0/16"], ["192.0.2.0/25"], 65536 - 256 - 256, [("192.0.0.0/24", 256), ("192.0.2.0/24", 128)]),
    (["240.0.0.0/4"], [], (1 << 28) - 1, [("255.255.255.255/32", 1)]),
    (["126-127.0.*.1-2"], [], 512, [("127.0.0.0/8", 512)]),
    (["2001:db7:ffff:ffff:ffff:ffff:ffff:fffe-2001:db8::1"], [], 2, [("2001:db8::/32", 2)]),
    (["0.0.0.0/0"], [], 3720149760, [
        ("0.0.0.0/8", 1 << 24), ("100.64.0.0/10", 1 << 22), ("127.0.0.0/8", 1 << 24), ("169.254.0.0/16", 1 << 16),
        ("192.0.0.0/24", 256), ("192.0.2.0/24", 256), ("192.88.99.0/24", 256), ("198.18.0.0/15", 1 << 17),
        ("198.51.100.0/24", 256), ("203.0.113.0/24", 256), ("224.0.0.0/4", 1 << 28), ("240.0.0.0/4", 1 << 28),
    ]),
]  # fmt: skip


@pytest.mark.parametrize(("specs", "excludes", "left", "taken"), TAKEN, ids=[" ".join(row[0]) for row in TAKEN])
def test_what_a_range_loses(specs: list[str], excludes: list[str], left: int, taken: list[tuple[str, int]]) -> None:
    choice = choose(specs, excludes, resolve)
    assert (choice.hosts.size, [(each.entry.block, each.addresses) for each in choice.taken]) == (left, taken)


def test_the_message_about_skipped_addresses() -> None:
    (taken,) = choose(["198.51.99.0-198.51.100.9"], [], resolve).taken
    assert skipped_text(taken) == (
        "skipped 10 addresses of 198.51.100.0/24 (documentation (TEST-NET-2), RFC 5737): "
        "name a target inside that block to scan it"
    )


def test_nothing_left_is_an_error_that_names_the_blocks() -> None:
    with pytest.raises(UsageError) as error:
        choose(["126.255.255.255-127.0.0.1"], ["126.0.0.0/8"], resolve)
    assert str(error.value) == (
        "only special-purpose addresses are left, of 127.0.0.0/8 (loopback, RFC 1122): name a target inside one block"
    )


def test_what_each_exclude_takes_by_itself() -> None:
    lines = b"10.0.0.0/30 # a\n10.0.0.2-10.0.0.9\n10.9.9.9 10.0.0.7"
    choice = choose(["10.0.0.0/28", "fc00::/65"], ["fc00::/66", "fc00::4000:0:0:0/67", lines], resolve, counted=4)
    assert (choice.excludes, choice.excluded) == (
        6,
        [("fc00::/66", 1 << 62), ("fc00::4000:0:0:0/67", 1 << 61), ("10.0.0.0/30", 4), ("10.0.0.2-10.0.0.9", 8)],
    )


def test_a_name_is_resolved_once() -> None:
    asked: list[str] = []

    def count(name: str) -> list[str]:
        asked.append(name)
        return resolve(name)

    choose(["far", "126.255.255.255-127.0.0.1"], [], count)
    assert asked == ["far"]


PUBLIC = [
    (["10.0.0.0/8", "198.18.0.0/15", "fc00::/100"], 0),
    (["1.0.0.0/24", "10.0.0.0/24"], 256),
    (["9.255.255.0-10.0.0.255"], 256),
    (["9-11.0.0.*"], 512),
    (["2001:4860::/120"], 256),
]


@pytest.mark.parametrize(("specs", "expected"), PUBLIC)
def test_how_many_are_public(specs: list[str], expected: int) -> None:
    assert public_hosts(parse_hosts(specs, [], resolve)) == expected


SPANS = [
    ("192.0.2.0/25", "192.0.2.0", "192.0.2.127"),
    ("192.0.2.3-9", "192.0.2.3", "192.0.2.9"),
    ("10-12.*.1,5.7", "10.0.1.7", "12.255.5.7"),
    ("2-9.*.*.1-3", "2.0.0.1", "9.255.255.3"),
    ("far", "1.1.1.1", "1.1.1.1"),
]


@pytest.mark.parametrize(("spec", "first", "last"), SPANS)
def test_the_span_of_a_target_as_written(spec: str, first: str, last: str) -> None:
    ends = parse_hosts([first, last], [], resolve).spans()
    assert parse_targets([spec], [], resolve, around=EVERYTHING).written.spans() == [(ends[0][0], ends[-1][1])]


ASKED = [
    (["1.0.0.0/12"], False, None, None),
    (["10.0.0.0/8", "1.0.0.0/12"], False, None, None),
    (["1.0.0.0/11"], True, None, None),
    (["1.0.0.0/11"], False, lambda question: True, None),
    (["1.0.0.0/11"], False, None, "2,097,152 public addresses are more than 1,048,576: if they are meant, add --yes"),
    (["1.0.0.0/11"], False, lambda question: False,
     "nothing was sent: name fewer targets, or answer y (or add --yes)"),
]  # fmt: skip


@pytest.mark.parametrize(("specs", "yes", "ask", "message"), ASKED)
def test_very_many_public_hosts(
    specs: list[str], yes: bool, ask: Callable[[str], bool] | None, message: str | None
) -> None:
    said = None
    try:
        guard(parse_hosts(specs, [], resolve), yes, ask)
    except UsageError as error:
        said = str(error)
    assert said == message


ANY_PUBLIC = [
    (["10.0.0.0/8", "192.168.0.0-192.168.255.255", "198.18.0.0/15", "fc00::/100"], False),
    (["10.0.0.0/8", "9.255.255.255"], True),
    (["100.64.0.0/24"], True),
    (["2001:4860::1"], True),
]


@pytest.mark.parametrize(("specs", "expected"), ANY_PUBLIC)
def test_whether_any_host_is_public(specs: list[str], expected: bool) -> None:
    assert any_public(parse_hosts(specs, [], resolve)) == expected


@pytest.mark.parametrize("spans", [1001, 100_000])
def test_private_networks_with_many_excludes_are_not_public(spans: int) -> None:
    """A scan of them is not held at the rate for public addresses."""
    excludes = [f"10.{number >> 15}.{number >> 7 & 255}.{number << 1 & 255}" for number in range(spans)]
    private, public = (parse_hosts([*more, "10.0.0.0/8"], excludes, resolve) for more in ([], ["1.1.1.1"]))
    assert (private.size, any_public(private), any_public(public)) == ((1 << 24) - spans, False, True)


def test_the_list_of_special_blocks() -> None:
    """Every block occurs once, in its canonical form and in order."""
    blocks = [entry.block for entry in entries()]
    assert (len(set(blocks)), [str(ip_network(block)) for block in blocks], len(blocks)) == (len(blocks), blocks, 31)


NMAPS = """\
# comment
unknown\t7/tcp\t0.5\t# a
b\t9/udp\t0.9
c\t22/tcp\t0.25
torn line
d\t5/tcp\t0.25
e\t6/tcp\tmany
f\t1/tcp\t0.000001
"""


@pytest.mark.parametrize(("count", "expected"), [(1, [7]), (2, [5, 7]), (4, [1, 5, 7, 22])])
def test_top_ports_by_nmaps_file(count: int, expected: list[int], tmp_path: Path) -> None:
    (tmp_path / "nmap-services").write_text(NMAPS)
    assert top_ports(count, nmap_services(("/nonexistent", str(tmp_path)))).tolist() == expected


def test_top_ports_of_our_own() -> None:
    assert (top_ports(4, nmap_services(())).tolist(), top_ports(len(POPULAR), "").size) == (
        [22, 80, 443, 3389],
        len(POPULAR),
    )


@pytest.mark.parametrize("count", [0, 300])
def test_too_many_top_ports(count: int) -> None:
    with pytest.raises(UsageError) as error:
        top_ports(count, "")
    assert str(error.value) == (
        f"--top-ports {count}: our own list (nmap is not installed) has 299 ports; give 1 to 299, or use -p"
    )
