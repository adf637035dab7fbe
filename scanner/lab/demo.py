"""The demonstration: a real half-open scan of a host whose every port is known.

`DEMO` is the ground truth as data: what each port does, and which verdict is right. The kernel makes the ports
(a listener, nothing, or a firewall rule); the decision table gives the words. The tests compare with the same rows.
The host is a network namespace of this machine, so nothing leaves the machine and nobody has to permit the scan.
The printed verdicts are the scan's own. They are compared with the truth afterwards, and the exit code says whether
they agree.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from ..config import SynConfig
from ..halfopen.session import syn_session
from ..halfopen.setup import Warn
from ..output import Summary, open_sinks
from ..rounds.summary import summary_lines
from ..targets.ports import format_ports, parse_ports
from ..targets.spaces import Spaces
from ..targets.spec import parse_hosts
from ..verdict.rows import Verdict
from ..verdict.table import Reason, State
from .box import HAS_IPV6, Box, pair_box
from .firewall import PortKind

RATE = 0.0
Verdicts = dict[tuple[str, int | None], Verdict]


class DemoPort(NamedTuple):
    """One port of the demo's host: what is there, and the right verdict in IPv4 and in IPv6."""

    port: int
    kind: PortKind
    expected_state: State
    expected_reason_v4: Reason | None
    expected_reason_v6: Reason | None
    note: str

    def expected_reason(self, version: int) -> Reason | None:
        """The right reason in this IP version (4 or 6); None where that version has no such answer."""
        return self.expected_reason_v4 if version == 4 else self.expected_reason_v6


OPEN, CLOSED, FILTERED = State.OPEN, State.CLOSED, State.FILTERED
R = Reason  # short names keep the table readable

DEMO: tuple[DemoPort, ...] = (
    DemoPort(22, PortKind.OPEN, OPEN, R.SYN_ACK, R.SYN_ACK, "a listener"),
    DemoPort(80, PortKind.OPEN, OPEN, R.SYN_ACK, R.SYN_ACK, "a listener"),
    DemoPort(443, PortKind.OPEN, OPEN, R.SYN_ACK, R.SYN_ACK, "a listener"),
    DemoPort(23, PortKind.CLOSED, CLOSED, R.RESET, R.RESET, "nobody listens: the host resets"),
    DemoPort(25, PortKind.CLOSED, CLOSED, R.RESET, R.RESET, "nobody listens: the host resets"),
    DemoPort(8080, PortKind.CLOSED, CLOSED, R.RESET, R.RESET, "nobody listens: the host resets"),
    DemoPort(113, PortKind.TCP_RESET, CLOSED, R.RESET, R.RESET, "the firewall forges a reset"),
    DemoPort(135, PortKind.DROP, FILTERED, R.NO_RESPONSE, R.NO_RESPONSE, "the firewall drops in silence"),
    DemoPort(139, PortKind.DROP, FILTERED, R.NO_RESPONSE, R.NO_RESPONSE, "the firewall drops in silence"),
    DemoPort(445, PortKind.DROP, FILTERED, R.NO_RESPONSE, R.NO_RESPONSE, "the firewall drops in silence"),
    DemoPort(3000, PortKind.NET_UNREACHABLE, FILTERED, R.NET_UNREACH, R.NO_ROUTE, "ICMP 3/0, ICMPv6 1/0"),
    DemoPort(3001, PortKind.HOST_UNREACHABLE, FILTERED, R.HOST_UNREACH, R.HOST_UNREACH, "ICMP 3/1, ICMPv6 1/3"),
    DemoPort(3002, PortKind.PROT_UNREACHABLE, FILTERED, R.PROTO_UNREACH, None, "ICMP 3/2"),
    DemoPort(3003, PortKind.PORT_UNREACHABLE, FILTERED, R.PORT_UNREACH, R.PORT_UNREACH, "ICMP 3/3, ICMPv6 1/4"),
    DemoPort(3007, PortKind.HOST_UNKNOWN, FILTERED, R.DEST_UNREACH, None, "ICMP 3/7"),
    DemoPort(3009, PortKind.NET_PROHIBITED, FILTERED, R.NET_PROHIBITED, None, "ICMP 3/9"),
    DemoPort(3010, PortKind.HOST_PROHIBITED, FILTERED, R.HOST_PROHIBITED, None, "ICMP 3/10"),
    DemoPort(
        3013, PortKind.ADMIN_PROHIBITED, FILTERED, R.ADMIN_PROHIBITED, R.ADMIN_PROHIBITED, "ICMP 3/13, ICMPv6 1/1"
    ),
    DemoPort(3102, PortKind.BEYOND_SCOPE, FILTERED, None, R.BEYOND_SCOPE, "ICMPv6 1/2"),
    DemoPort(3105, PortKind.POLICY_FAIL, FILTERED, None, R.ADMIN_PROHIBITED, "ICMPv6 1/5"),
    DemoPort(3106, PortKind.REJECT_ROUTE, FILTERED, None, R.REJECT_ROUTE, "ICMPv6 1/6"),
    DemoPort(8443, PortKind.SYN_PROXY, OPEN, R.SYN_ACK, None, "a SYN proxy answers for the listener behind it"),
)


@contextmanager
def demo_box() -> Iterator[Box]:
    """A box whose target has the ports of the demo, in both IP versions."""
    with pair_box() as box:
        add_demo_ports(box)
        yield box


def add_demo_ports(box: Box) -> None:
    """Make the ports of `DEMO` on the target; what this machine cannot make is in `box.unavailable`."""
    box.listen(row.port for row in DEMO if row.kind in (PortKind.OPEN, PortKind.SYN_PROXY))
    box.install({kind: [row.port for row in DEMO if row.kind is kind] for kind in PortKind})


def demonstrate(warn: Warn) -> int:
    """Build the host, scan it, print the verdicts and how they compare with the truth; 0 if all agree."""
    with demo_box() as box:
        targets = {4: box.target_ip, 6: box.target_ip6} if HAS_IPV6 else {4: box.target_ip}
        verdicts = _scan(box, list(targets.values()), warn)
    for (kind, version), reason in sorted(box.unavailable.items(), key=lambda item: item[0][1]):
        print(f"not available here (IPv{version}): {kind.value}: {reason}")
    checked = [(ip, version, row) for version, ip in targets.items() for row in expected(box, version)]
    wrong = [line for ip, version, row in checked for line in _mistakes(verdicts.get((ip, row.port)), ip, version, row)]
    for line in wrong:
        print(line)
    print(
        f"{len(checked)} of the {len(verdicts)} rows are checked. For the other {len(verdicts) - len(checked)} "
        "the lab can build no special answer in that IP version."
    )
    ending = "" if wrong else "; nothing missed, nothing invented"
    print(f"{len(checked) - len(wrong)} of {len(checked)} verdicts are what the lab built{ending}.")
    return 1 if wrong else 0


def expected(box: Box, version: int) -> list[DemoPort]:
    """The rows of `DEMO` that this machine can make in this IP version."""
    return [row for row in DEMO if row.expected_reason(version) and (row.kind, version) not in box.unavailable]


def _scan(box: Box, targets: list[str], warn: Warn) -> Verdicts:
    """The scan of `halfopen syn` from inside the box; prints its table and summary."""
    ports = format_ports([row.port for row in DEMO])
    print(f"A host with {len(DEMO)} kinds of port in a network of its own; from there:")
    print(f"$ halfopen syn {' '.join(targets)} -p {ports} --rate {RATE:g}\n", flush=True)
    verdicts: Verdicts = {}
    with box.scanner.entered():
        config = SynConfig(rate=RATE)
        spaces = Spaces(parse_hosts(targets, [], lambda name: []), [parse_ports(ports)])
        session = syn_session(spaces, config, warn)
        outputs = open_sinks("table")
        for batch in session.batches():
            rows = list(batch)
            verdicts.update({(row.ip, row.port): row for row in rows})
            outputs.write(rows)
        outputs.finish(Summary())
    print("\n".join(summary_lines(session.stats())), file=sys.stderr)
    return verdicts


def _mistakes(verdict: Verdict | None, ip: str, version: int, row: DemoPort) -> list[str]:
    """One line when the verdict is not the expected one."""
    reason = row.expected_reason(version)
    built = f"{row.expected_state.value} {reason.word if reason else ''}"
    got = f"{verdict.state} {verdict.reason}" if verdict else "no row"
    return [] if got == built else [f"wrong: {ip} port {row.port} ({row.note}): {got}, built as {built}"]
