"""The packets of one target as a ladder, the way textbooks draw the handshake.

There are two rails, ours on the left and the target's on the right, and one arrow for each packet, in the order of
time. Real sequence numbers have ten digits that explain nothing, so each side counts from its first one, separately for
each port of ours (each pass has its own port and sequence number). The arrow of an ICMP error starts at the name of the
router that sent it. The verdict follows below, with a sentence for each word of evidence.

A ladder needs every packet of its target in both directions, also those that decide nothing. `TargetPackets`
picks them out of a stream of frames: the taps of a live scan, or the batches of a capture. Each batch goes through the
one parser once; a packet of another target costs a comparison. Several scanners of one target (in one capture) are kept
apart by their address.

The text is plain ASCII within 80 columns, so that it survives a mail and a bug report. Limits: the first thousand
packets of a target are kept, and a long exchange is cut in the middle and says by how many packets.

Source for the arithmetic of relative numbers: RFC 9293, 3.4 (modulo 2^32).
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address
from textwrap import wrap
from typing import NamedTuple

import numpy as np

from ..errors import UsageError
from ..packet.addresses import from_text, to_text
from ..packet.headers import ACK, FIN, PSH, RST, SYN, Frames
from ..packet.parse import Segments, parse
from ..packet.tunnel import Tunnels
from ..targets.spaces import Spaces
from ..verdict.rows import Verdict
from ..verdict.sentences import evidence_sentence, printable, reason_phrase
from ..verdict.table import Reason, classify_icmp

EACH = "each"  # `--ladder` without a value: every target, if they are few
MOST_TARGETS = 8
WIDTH = 80
_MOST_STEPS = 1000  # of one target
_CLOCK = 11  # "1234.567 ms"
_INNER = WIDTH - _CLOCK - 4  # between the rails
_MARGIN = " " * (_CLOCK + 1)
_HEAD, _TAIL = 40, 10  # packets shown of a longer exchange
_FLAGS = ((SYN, "SYN"), (FIN, "FIN"), (RST, "RST"), (PSH, "PSH"), (ACK, "ACK"))
_TARGET = re.compile(r"(?:\[(.+)\]|([^:\[\]]+)):([0-9]{1,5})")


# ── which targets, and their packets ──


class LadderTarget(NamedTuple):
    """One target of a ladder: the address as text (RFC 5952) and the port."""

    ip: str
    port: int


def parse_target(text: str) -> LadderTarget:
    """`198.18.0.2:80` or `[2001:db8::2]:80`. Raises UsageError."""
    match = _TARGET.fullmatch(text)
    try:
        if match and 0 < int(match[3]) < 65536:
            return LadderTarget(str(ip_address(match[1] or match[2])), int(match[3]))
    except ValueError:
        pass
    raise UsageError(f"--ladder {text!r} is not an address and a port: write 198.18.0.2:80 or [2001:db8::2]:80")


def scan_targets(ladder: str | None, spaces: Spaces) -> list[LadderTarget]:
    """The targets of a scan that `--ladder` names. Raises UsageError for what is no target of it, or for too many."""
    if ladder is None:
        return []
    if ladder != EACH:
        wanted = [target for target in _wanted(ladder, spaces.hosts.addresses) if _is_target(target, spaces)]
        if not wanted:
            raise UsageError(f"--ladder {ladder} is no target of this scan: add it to the targets and to -p")
        return wanted[:MOST_TARGETS]
    size = spaces.targets
    if size > MOST_TARGETS:
        raise UsageError(f"--ladder draws {MOST_TARGETS} targets at most and this scan has {size:,}: name one, IP:PORT")
    number = np.arange(spaces.size)
    named = zip(to_text(spaces.pick(number)), spaces.space_of(number).tolist(), strict=True)
    return [LadderTarget(name, port) for name, space in named for port in spaces.sets[space].tolist()]


def _wanted(ladder: str, addresses: Mapping[str, list[str]]) -> list[LadderTarget]:
    """What `--ladder` names: a target, or each address of a name that the user gave. Raises UsageError."""
    match = _TARGET.fullmatch(ladder)
    name = (match[2] or "").lower() if match else ""
    found = {ip: None for given, ips in addresses.items() if given.lower() == name for ip in ips}
    if match is None or not any(map(str.isalpha, name)):
        return [parse_target(ladder)]
    return [LadderTarget(ip, int(match[3])) for ip in found]


def _is_target(target: LadderTarget, spaces: Spaces) -> bool:
    number = spaces.number_of(from_text(target.ip))
    return bool(number[0] >= 0 and target.port in spaces.sets[int(spaces.space_of(number)[0])])


class LadderStep(NamedTuple):
    """One packet. `time_ns` since any moment; `what` names it (`SYN`, `RST/ACK`, `ICMP host-unreach`).

    `our_port` differs from pass to pass. `seq` and `ack` are as on the wire, None where there are none; the `seq` of an
    ICMP error is the one that it quotes, ours. `window` in bytes, unscaled, None where it means nothing. `router`: the
    address that sent the packet, if that is neither ours nor the target's.
    """

    time_ns: int
    from_us: bool
    what: str
    our_port: int
    seq: int | None = None
    ack: int | None = None
    window: int | None = None
    router: str | None = None

    @property
    def is_icmp(self) -> bool:
        """Whether it is an ICMP error."""
        return self.what.startswith("ICMP")


class TargetPackets:
    """Collects the packets of a few targets."""

    def __init__(self, targets: list[LadderTarget], tunnels: Tunnels | None = None) -> None:
        """With `tunnels` also their packets inside tunnels."""
        self.targets = targets
        self._tunnels = tunnels
        self._addresses = [from_text(target.ip)[0] for target in targets]
        # By target, scanner and tunnel.
        self._steps: dict[tuple[LadderTarget, str, str | None], list[LadderStep]] = {}

    def see(self, frames: Frames, name: str = "") -> None:
        """Take the targets' packets out of a batch. A tap also gives the `name` of the interface."""
        segments = parse(frames, Counter(), None, self._tunnels)
        for target, address in zip(self.targets, self._addresses, strict=True):
            # The parser gives an ICMP error the ports of the probe that it quotes, turned round as in a reply.
            theirs = (segments.src == address) & (segments.sport == target.port)
            ours = (segments.dst == address) & (segments.dport == target.port) & ~segments.icmp
            for row in np.flatnonzero(theirs | ours).tolist():
                packet, from_us = segments.take(np.array([row])), bool(ours[row])
                us = to_text(packet.src if from_us else packet.dst)[0]
                tunnel = self._tunnels.text(int(packet.tunnel[0])) if self._tunnels else None
                steps = self._steps.setdefault((target, us, tunnel), [])
                if len(steps) >= _MOST_STEPS:
                    break
                steps.append(_step(packet, from_us))

    def ladder(self, verdict: Verdict) -> str:
        """The drawing that leads to a verdict of one of the targets."""
        mine = verdict.ip, verdict.port, verdict.tunnel
        by_scanner = {us: steps for (target, us, tunnel), steps in self._steps.items() if (*target, tunnel) == mine}
        us = verdict.scanner_ip or next(iter(by_scanner), "?")
        return draw(us, by_scanner.get(us, []), verdict)


def _step(packet: Segments, from_us: bool) -> LadderStep:
    icmp, flags = bool(packet.icmp[0]), packet.flags[0]
    return LadderStep(
        time_ns=int(packet.time[0]),
        from_us=from_us,
        what=_icmp_name(packet) if icmp else "/".join(word for bit, word in _FLAGS if flags & bit) or "no flags",
        our_port=int((packet.sport if from_us else packet.dport)[0]),
        seq=int(packet.seq[0]),
        ack=int(packet.ack[0]) if flags & ACK else None,
        window=None if icmp or flags & RST or packet.window[0] < 0 else int(packet.window[0]),
        router=to_text(packet.sender)[0] if icmp and packet.sender[0] != packet.src[0] else None,
    )


def _icmp_name(packet: Segments) -> str:
    reason = Reason(int(classify_icmp(packet.version, packet.icmp_type, packet.icmp_code)[0]))
    return f"ICMP {reason.word}" if reason else f"ICMP {int(packet.icmp_type[0])}/{int(packet.icmp_code[0])}"


# ── the drawing ──


def draw(us: str, steps: Iterable[LadderStep], verdict: Verdict) -> str:
    """The ladder as text, each line with its newline. `us` names the left rail (our address). The steps may
    come in any order; those of equal time stay as given."""
    ordered = sorted(steps, key=lambda step: step.time_ns)
    lines = [*_names(us, verdict), *_arrows(ordered), _rails(""), *_conclusion(verdict)]
    return "\n".join(lines) + "\n"


def _names(us: str, verdict: Verdict) -> list[str]:
    """The names above the rails: on one line if both fit, the target's below ours if not. Its name is below it."""
    ip = f"[{verdict.ip}]" if ":" in verdict.ip and verdict.port is not None else verdict.ip  # RFC 5952, section 6
    us, target = printable(us), printable(ip if verdict.port is None else f"{ip}:{verdict.port}")
    width = _INNER + 2
    names = wrap(f"({printable(verdict.hostname)})", width) if verdict.hostname else []
    below = [f"{_MARGIN}{name:>{width}}" for name in names]
    if len(us) + 2 + len(target) <= width:
        return [f"{_MARGIN}{us}{target:>{width - len(us)}}", *below]
    return [f"{_MARGIN}{us}", f"{_MARGIN}{target:>{width}}", *below]


def _rails(text: str, clock: str = "") -> str:
    return f"{clock:>{_CLOCK}} |{text:<{_INNER}}|"


def _arrows(steps: Sequence[LadderStep]) -> list[str]:
    talks = _talks(steps)
    origins = _origins(steps, talks)
    cut = max(0, len(steps) - _HEAD - _TAIL)
    lines: list[str] = []
    port = None
    for number, step in enumerate(steps):
        if _HEAD <= number < _HEAD + cut:
            if number == _HEAD:
                lines.append(_rails(f"{f'... {cut:,} more packets ...':^{_INNER}}"))
            continue
        if step.our_port != port:
            port = step.our_port
            lines.append(_rails(f" from port {port}"))
        lines += _arrow(step, _clock(step.time_ns - steps[0].time_ns), _label(step, talks[number], origins))
    return lines


Talk = tuple[int, int]  # our port, and which of its conversations


def _talks(steps: Sequence[LadderStep]) -> list[Talk]:
    """The conversation of each step. A SYN of ours with another number begins one: the port is used again."""
    latest: dict[int, tuple[int, int | None]] = {}
    talks = []
    for step in steps:
        number, seq = latest.get(step.our_port, (0, None))
        if step.from_us and step.what == "SYN":
            number, seq = number + (seq is not None and seq != step.seq), step.seq
            latest[step.our_port] = number, seq
        talks.append((step.our_port, number))
    return talks


def _origins(steps: Sequence[LadderStep], talks: Sequence[Talk]) -> dict[tuple[Talk, bool], int]:
    """(conversation, ours?) → the sequence number that counts as 0: the first sent, or else the first acknowledged."""
    origins: dict[tuple[Talk, bool], int] = {}
    for step, talk in zip(steps, talks, strict=True):
        if step.seq is not None and "RST" not in step.what:  # a reset may carry a bare 0, which is no origin
            origins.setdefault((talk, step.from_us or step.is_icmp), step.seq)
    # A capture may lack our SYN. An acknowledgement of it names the number behind it (RFC 9293, 3.4).
    for step, talk in zip(steps, talks, strict=True):
        if step.ack is not None and "ACK" in step.what:
            origins.setdefault((talk, not step.from_us), step.ack - 1)
    return origins


def _clock(nanoseconds: int) -> str:
    # The limits are where rounding to three digits would widen the column.
    if nanoseconds < 9_999_999_500:
        return f"{nanoseconds / 1e6:.3f} ms"
    if nanoseconds < 999_999_999_500_000:
        return f"{nanoseconds / 1e9:.3f} s"
    return f"{nanoseconds / 86_400e9:.2f} d"


def _label(step: LadderStep, talk: Talk, origins: dict[tuple[Talk, bool], int]) -> str:
    parts = [printable(step.what)]
    numbers = [("quoted seq" if step.is_icmp else "seq", step.seq, step.from_us or step.is_icmp)]
    if "ACK" in step.what:  # without the flag the field means nothing
        numbers.append(("ack", step.ack, not step.from_us))
    for name, number, ours in numbers:
        if number is not None:
            origin = origins.get((talk, ours), number)
            parts.append(f"{name}={number - origin & 0xFFFF_FFFF}")
    if step.window is not None:
        parts.append(f"win={step.window}")
    return " ".join(parts)


def _arrow(step: LadderStep, clock: str, label: str) -> list[str]:
    """One arrow, with the label on it; what does not fit follows below."""
    router = "" if step.router is None else f" {printable(step.router)} "
    length = _INNER - len(router) - len("<--  -")
    first, *more = wrap(label, length, break_on_hyphens=False) or [""]
    shaft = f"{first} ".ljust(length + 1, "-")
    line = f"-- {shaft}->" if step.from_us else f"<- {shaft}--{router}"
    return [_rails(line, clock), *(_rails(f"   {part}") for part in wrap(" ".join(more), _INNER - 6))]


def _conclusion(verdict: Verdict) -> list[str]:
    """The verdict, then a sentence for each word of its evidence."""
    lines = wrap(f"{verdict.state} ({verdict.reason}): {reason_phrase(verdict.reason)}", WIDTH, subsequent_indent="  ")
    for word in verdict.evidence:
        text = f"{printable(word)}: {evidence_sentence(word)}"
        lines += wrap(text, WIDTH, initial_indent="  ", subsequent_indent="    ")
    return lines
