"""Port specifications and service names."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanner.errors import UsageError
from scanner.targets.ports import format_ports, parse_ports, services

SPECS = [
    ("80", [80]),
    ("443,22,80,22", [22, 80, 443]),
    ("8000-8003,8002-8005", [8000, 8001, 8002, 8003, 8004, 8005]),
    ("ssh,http,https", [22, 80, 443]),
    ("HTTPS", [443]),
    ("-3", [1, 2, 3]),
    ("65534-", [65534, 65535]),
    ("0", [0]),
    ("0-2", [0, 1, 2]),
    (" 22 , 80 ", [22, 80]),
    ("T:22,23", [22, 23]),
    ("domain,ftp*", [20, 21, 53, 574, 989, 990]),
    ("imap?", [220, 993]),
]

BAD = [
    ("", "port list '' has an empty part: write ports with single commas, as in 22,80,8000-8100"),
    ("22,,80", "port list '22,,80' has an empty part: write ports with single commas, as in 22,80,8000-8100"),
    ("T:", "port list 'T:' has an empty part: write ports with single commas, as in 22,80,8000-8100"),
    ("70000", "port 70000 in '70000' is too large: ports end at 65535"),
    ("22,1-" + "9" * 5000, f"port {'9' * 5000} in '1-{'9' * 5000}' is too large: ports end at 65535"),
    ("90-80", "port range '90-80' ends before it starts: swap its ends"),
    ("22,80-0", "port range '80-0' ends before it starts: swap its ends"),
    ("U:53", "'U:53': only TCP ports can be scanned, leave the U: ports out of 'U:53'"),
    ("nosuchservice", "no TCP service is registered as 'nosuchservice': give the port's number"),
    ("1-2-3", "no TCP service is registered as '1-2-3': give the port's number"),
    ("22;80", "'22;80' is not a port: write numbers, ranges and names, as in 22,80,8000-8100,http"),
    ("X:1", "'X:1' is not a port: write numbers, ranges and names, as in 22,80,8000-8100,http"),
    ("٣", "'٣' is not a port: write numbers, ranges and names, as in 22,80,8000-8100,http"),
]


@pytest.mark.parametrize(("spec", "ports"), SPECS)
def test_spec(spec: str, ports: list[int]) -> None:
    assert parse_ports(spec).tolist() == ports


@pytest.mark.parametrize(("spec", "message"), BAD)
def test_bad_spec(spec: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_ports(spec)
    assert str(caught.value) == message


def test_dash_is_every_port_but_zero() -> None:
    assert np.array_equal(parse_ports("-"), np.arange(1, 65536, dtype=np.uint16))


def test_excluded_ports_are_removed() -> None:
    assert parse_ports("20-25,80", "22-23,http").tolist() == [20, 21, 24, 25]


def test_excluding_everything_is_an_error() -> None:
    with pytest.raises(UsageError) as caught:
        parse_ports("22", "-")
    assert str(caught.value) == "every port was excluded by '-': exclude fewer ports"


NAMES = [
    (21, "ftp"), (22, "ssh"), (23, "telnet"), (25, "smtp"), (53, "domain"), (80, "http"), (110, "pop3"), (143, "imap"),
    (443, "https"), (445, "microsoft-ds"), (631, "ipp"), (993, "imaps"), (3306, "mysql"), (3389, "ms-wbt-server"),
    (5432, "postgresql"), (6000, "x11"), (6379, "redis"), (8080, "http-alt"), (0, None), (81, None), (65535, None),
]  # fmt: skip


@pytest.mark.parametrize(("port", "name"), NAMES)
def test_service_name(port: int, name: str | None) -> None:
    assert services().get(port) == name


def test_every_name_finds_its_port() -> None:
    named = list(services())
    assert [port for port in named[::50] if port not in parse_ports(services()[port])] == []
    assert len(named) == 5960


@pytest.mark.parametrize(
    ("ports", "text"),
    [
        ([], ""),
        ([80], "80"),
        ([81, 80], "80,81"),
        ([8002, 22, 80, 8000, 8001, 22], "22,80,8000-8002"),
        ([0, 1, 2, 65535], "0-2,65535"),
    ],
)
def test_format(ports: list[int], text: str) -> None:
    assert format_ports(np.array(ports, np.uint16)) == text


@given(st.sets(st.integers(0, 65535), min_size=1, max_size=50), st.integers(0, 30))
def test_format_and_parse_are_inverse(ports: set[int], run: int) -> None:
    column = sorted(ports | {min(65535, min(ports) + step) for step in range(run)})
    assert parse_ports(format_ports(column)).tolist() == column
