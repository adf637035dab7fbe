"""The demonstration: a real half-open scan of a host whose every port is known.

The host lives in a network namespace of this machine, so nothing leaves it and nobody has to ask
for permission to scan. The verdicts printed are the scan's own; the ground truth is only compared with
them afterwards, and the exit code says whether they agree.
"""

import sys
from collections.abc import Iterable

from ..config import SynConfig
from ..halfopen.session import Session
from ..halfopen.setup import Warn
from ..output import Summary, open_sinks
from ..rounds.summary import summary_lines
from ..targets.ports import format_ports, parse_ports
from ..targets.spec import parse_hosts
from ..verdict.table import Verdict
from .box import Box
from .scene import DEMO, PortKind, demo_box

RATE = 0.0


def demonstrate(warn: Warn) -> int:
    """Build the scene, scan it, print the verdicts and how they compare with the truth; 0 if all agree."""
    with demo_box() as box:
        found = _scan(box, warn)
        wrong = [line for version, ip in _addresses(box) for line in _compare(box, version, ip, found)]
    checked = sum(len(_expected(box, version)) for version, _ in _addresses(box))
    for line in wrong:
        print(line)
    ending = "" if wrong else "; nothing missed, nothing invented"
    print(f"{checked - len(wrong)} of {checked} verdicts are what the lab built{ending}.")
    return 1 if wrong else 0


def _addresses(box: Box) -> list[tuple[int, str]]:
    return [(4, box.target_ip), (6, box.target_ip6)] if box.ipv6 else [(4, box.target_ip)]


def _scan(box: Box, warn: Warn) -> dict[tuple[str, int | None], Verdict]:
    """The scan that `halfopen syn` would do from inside the box; prints its table and summary."""
    ports = format_ports([row.port for row in DEMO])
    targets = [ip for _, ip in _addresses(box)]
    print(f"A host with {len(DEMO)} kinds of port in a network of its own; from there:")
    print(f"$ halfopen syn {' '.join(targets)} -p {ports} --rate {RATE:g}\n", flush=True)
    found: dict[tuple[str, int | None], Verdict] = {}
    with box.scanner.entered():
        config = SynConfig(rate=RATE)
        session = Session(parse_hosts(targets, [], lambda name: []), parse_ports(ports), config, warn)
        outputs = open_sinks("table")
        for rows in session.batches():
            verdicts = list(rows)
            found.update({(verdict.ip, verdict.port): verdict for verdict in verdicts})
            outputs.write(verdicts)
        outputs.finish(Summary())
    print("\n".join(summary_lines(session.sums)), file=sys.stderr)
    return found


def _expected(box: Box, version: int) -> list[PortKind]:
    return [row for row in DEMO if row.expected_reason(version) and (row.kind, version) not in box.unavailable]


def _compare(box: Box, version: int, ip: str, found: dict[tuple[str, int | None], Verdict]) -> Iterable[str]:
    for (kind, family), reason in box.unavailable.items():
        if family == version:
            print(f"not available here (IPv{version}): {kind.value}: {reason}")
    for row in _expected(box, version):
        want = row.expected_reason(version)
        verdict = found.get((ip, row.port))
        if verdict is None or want is None or (verdict.state, verdict.reason) != (row.expected_state.value, want.word):
            got = f"{verdict.state} {verdict.reason}" if verdict else "no row"
            built = f"{row.expected_state.value} {want.word if want else ''}"
            yield f"wrong: {ip} port {row.port} ({row.note}): {got}, built as {built}"
