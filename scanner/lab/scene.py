"""The demo's ground truth: what each port of the lab's target does, and what an honest scan must say of it.

The table is data so that the demo can print it beside the scan's verdicts, the tests can compare row by
row, and the benchmarks can score other scanners against it. What a port does is made by the kernel (a
listener, nothing, or a firewall rule of that `Kind`); what is expected is the decision table's word.
A reason of None means that the port is no part of the scene in that IP version: it has no such answer.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from ..verdict.table import Reason, State
from .box import Box
from .firewall import Kind


class PortKind(NamedTuple):
    """One port of the scene: what is there, and the right verdict in IPv4 and in IPv6."""

    port: int
    kind: Kind
    expected_state: State
    expected_reason_v4: Reason | None
    expected_reason_v6: Reason | None
    note: str

    def expected_reason(self, version: int) -> Reason | None:
        """The right reason in this IP version (4 or 6); None: not part of the scene there."""
        return self.expected_reason_v4 if version == 4 else self.expected_reason_v6


OPEN, CLOSED, FILTERED = State.OPEN, State.CLOSED, State.FILTERED
R = Reason  # short, so that the table below stays a table

DEMO: tuple[PortKind, ...] = (
    PortKind(22, Kind.OPEN, OPEN, R.SYN_ACK, R.SYN_ACK, "a listener"),
    PortKind(80, Kind.OPEN, OPEN, R.SYN_ACK, R.SYN_ACK, "a listener"),
    PortKind(443, Kind.OPEN, OPEN, R.SYN_ACK, R.SYN_ACK, "a listener"),
    PortKind(23, Kind.CLOSED, CLOSED, R.RESET, R.RESET, "nobody listens: the host resets"),
    PortKind(25, Kind.CLOSED, CLOSED, R.RESET, R.RESET, "nobody listens: the host resets"),
    PortKind(8080, Kind.CLOSED, CLOSED, R.RESET, R.RESET, "nobody listens: the host resets"),
    PortKind(113, Kind.TCP_RESET, CLOSED, R.RESET, R.RESET, "the firewall forges a reset"),
    PortKind(135, Kind.DROP, FILTERED, R.NO_RESPONSE, R.NO_RESPONSE, "the firewall drops in silence"),
    PortKind(139, Kind.DROP, FILTERED, R.NO_RESPONSE, R.NO_RESPONSE, "the firewall drops in silence"),
    PortKind(445, Kind.DROP, FILTERED, R.NO_RESPONSE, R.NO_RESPONSE, "the firewall drops in silence"),
    PortKind(3000, Kind.NET_UNREACHABLE, FILTERED, R.NET_UNREACH, R.NO_ROUTE, "ICMP 3/0, ICMPv6 1/0"),
    PortKind(3001, Kind.HOST_UNREACHABLE, FILTERED, R.HOST_UNREACH, R.HOST_UNREACH, "ICMP 3/1, ICMPv6 1/3"),
    PortKind(3002, Kind.PROT_UNREACHABLE, FILTERED, R.PROTO_UNREACH, None, "ICMP 3/2"),
    PortKind(3003, Kind.PORT_UNREACHABLE, FILTERED, R.PORT_UNREACH, R.PORT_UNREACH, "ICMP 3/3, ICMPv6 1/4"),
    PortKind(3007, Kind.HOST_UNKNOWN, FILTERED, R.DEST_UNREACH, None, "ICMP 3/7"),
    PortKind(3009, Kind.NET_PROHIBITED, FILTERED, R.NET_PROHIBITED, None, "ICMP 3/9"),
    PortKind(3010, Kind.HOST_PROHIBITED, FILTERED, R.HOST_PROHIBITED, None, "ICMP 3/10"),
    PortKind(3013, Kind.ADMIN_PROHIBITED, FILTERED, R.ADMIN_PROHIBITED, R.ADMIN_PROHIBITED, "ICMP 3/13, ICMPv6 1/1"),
    PortKind(3102, Kind.BEYOND_SCOPE, FILTERED, None, R.BEYOND_SCOPE, "ICMPv6 1/2"),
    PortKind(3105, Kind.POLICY_FAIL, FILTERED, None, R.ADMIN_PROHIBITED, "ICMPv6 1/5"),
    PortKind(3106, Kind.REJECT_ROUTE, FILTERED, None, R.REJECT_ROUTE, "ICMPv6 1/6"),
    PortKind(8443, Kind.SYN_PROXY, OPEN, R.SYN_ACK, None, "a SYN proxy answers for the listener behind it"),
)


@contextmanager
def demo_box() -> Iterator[Box]:
    """A box with the scene on its target, in both IP versions, for one `with` block."""
    with Box() as box:
        install(box)
        yield box


def install(box: Box) -> None:
    """Put the scene on the target of a box; what this machine cannot make is in `box.unavailable`."""
    box.listen(row.port for row in DEMO if row.kind in (Kind.OPEN, Kind.SYN_PROXY))
    box.install({kind: [row.port for row in DEMO if row.kind is kind] for kind in Kind})
