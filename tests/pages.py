"""Rows and models for the tests of the report page."""

from ipaddress import ip_address
from typing import Any

from scanner.page.model import Model
from scanner.results.columns import Vocabulary
from scanner.verdict.rows import Verdict

A, B = "198.18.0.2", "198.18.0.3"
ROWS = [
    Verdict(A, 22, "open", "syn-ack", ttl=64, service="ssh", rtt_ms=0.5, time=1700000000.0),
    Verdict(
        A, 23, "closed", "reset", ttl=64, service="telnet", evidence=("host-reset",), rtt_ms=0.25, time=1700000001.0
    ),
    Verdict(A, 113, "closed", "reset", ttl=64, service="ident", evidence=("firewall-reset",), rtt_ms=12.5),
    Verdict(A, 139, "filtered", "no-response"),
    Verdict(A, 139, "filtered", "host-unreach", icmp_from="198.18.9.9"),
    Verdict(B, None, "down", "no-arp"),
]
EVIL = "</script><script>alert(1)</script><img src=//198.18.0.9/x onerror=alert(1)>"


def model(rows: list[Verdict], **more: Any) -> Model:
    """The model of these rows."""
    texts = Vocabulary()
    columns = texts.rows(rows)
    return Model(texts, columns, "T", more.pop("sources", ["X"]), more.pop("notes", []), **more)


def many(first: str, hosts: int, step: int = 1, port: int = 80) -> list[Verdict]:
    """A row for each of some hosts; the second is open."""
    start = ip_address(first)
    return [
        Verdict(str(start + step * number), port, "open" if number == 1 else "closed", "x") for number in range(hosts)
    ]


def evil() -> Model:
    """Every text that a file may hold, hostile."""
    row = Verdict(A, 80, EVIL, EVIL, service=EVIL, evidence=(EVIL,), icmp_from=EVIL, tunnel=EVIL, hostname=EVIL)
    return model([row, row._replace(state="open", port=81)], sources=[EVIL], notes=[EVIL])
