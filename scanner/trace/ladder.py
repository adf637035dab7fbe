"""One target's exchange as a ladder, the way textbooks draw the handshake.

Two rails, ours on the left and the target's on the right, one arrow a packet, time running down. Real
sequence numbers are ten digits that teach nothing, so each side's count from its first one, for every
port of ours anew (each pass has a port and a sequence number of its own). An ICMP error starts at the
router that sent it, not at the target's rail. Below stands the verdict that the exchange leads to, with
a sentence for each word of evidence.

Plain ASCII within 80 columns, so that it survives a mail and a bug report. Limit: an exchange of
hundreds of packets is cut in the middle, and says by how many.

Source for the arithmetic of relative numbers: RFC 9293, 3.4 (modulo 2^32).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from textwrap import wrap

from ..verdict.sentences import evidence_sentence, printable, reason_phrase
from ..verdict.table import Verdict

WIDTH = 80
_CLOCK = 11  # "1234.567 ms"
_INNER = WIDTH - _CLOCK - 4  # between the rails
_MARGIN = " " * (_CLOCK + 1)
_HEAD, _TAIL = 40, 10  # packets shown of a longer exchange


@dataclass(frozen=True)
class Step:
    """One packet. `time_ns` since any moment; `what` names it (`SYN`, `RST/ACK`, `ICMP host-unreach`).

    `our_port` tells the passes apart. `seq` and `ack` are as on the wire, None where there are none; an
    ICMP error's `seq` is the one that it quotes, ours. `window` in bytes, unscaled, and `mss` in bytes,
    None where not worth showing. `router`: the address that sent it, when that is neither we nor the
    target. `note`: a remark under the arrow.
    """

    time_ns: int
    from_us: bool
    what: str
    our_port: int
    seq: int | None = None
    ack: int | None = None
    window: int | None = None
    mss: int | None = None
    note: str = ""
    router: str | None = None


def draw(us: str, steps: Iterable[Step], verdict: Verdict) -> str:
    """The ladder as text, lines ended by a newline. `us` names the left rail (our address); the steps may
    come in any order, those of equal time stay as given."""
    ordered = sorted(steps, key=lambda step: step.time_ns)
    target = verdict.ip if verdict.port is None else endpoint(verdict.ip, verdict.port)
    lines = _names(us, target)
    lines += _arrows(ordered)
    lines.append(_rails(""))
    return "\n".join(lines + _conclusion(verdict)) + "\n"


def endpoint(ip: str, port: int) -> str:
    """Address and port as one text; an IPv6 address in brackets (RFC 5952, section 6)."""
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def _names(us: str, target: str) -> list[str]:
    """The rails' names over the rails: on one line if both fit, the target's under ours if not."""
    us, target = printable(us), printable(target)
    room = _INNER + 2
    if len(us) + 2 + len(target) <= room:
        return [f"{_MARGIN}{us}{target:>{room - len(us)}}"]
    return [f"{_MARGIN}{us}", f"{_MARGIN}{target:>{room}}"]


def _rails(text: str, clock: str = "") -> str:
    return f"{clock:>{_CLOCK}} |{text:<{_INNER}}|"


def _arrows(steps: Sequence[Step]) -> list[str]:
    origins = _origins(steps)
    cut = len(steps) - _HEAD - _TAIL
    lines: list[str] = []
    port = None
    for number, step in enumerate(steps):
        if cut > 0 and _HEAD <= number < _HEAD + cut:
            if number == _HEAD:
                lines.append(_rails(f"{f'... {cut:,} more packets ...':^{_INNER}}"))
            continue
        if step.our_port != port:
            port = step.our_port
            lines.append(_rails(f" from port {port}"))
        lines += _arrow(step, _clock(step.time_ns - steps[0].time_ns), _label(step, origins))
    return lines


def _origins(steps: Sequence[Step]) -> dict[tuple[int, bool], int]:
    """(our port, ours?) → the sequence number that counts as 0: the first sent, or else the first acknowledged."""
    origins: dict[tuple[int, bool], int] = {}
    for step in steps:
        if step.seq is not None and "RST" not in step.what:  # a reset may carry a bare 0: no origin
            origins.setdefault((step.our_port, step.from_us or _is_icmp(step)), step.seq)
    for step in steps:
        if step.ack is not None and "ACK" in step.what:
            origins.setdefault((step.our_port, not step.from_us), step.ack - 1)
    return origins


def _is_icmp(step: Step) -> bool:
    return step.what.startswith("ICMP")


def _clock(nanoseconds: int) -> str:
    if nanoseconds < 9_999_999_500:
        return f"{nanoseconds / 1e6:.3f} ms"
    if nanoseconds < 999_999_999_500_000:
        return f"{nanoseconds / 1e9:.3f} s"
    return f"{nanoseconds / 86_400e9:.2f} d"


def _label(step: Step, origins: dict[tuple[int, bool], int]) -> str:
    parts = [printable(step.what)]
    quoted = _is_icmp(step)
    numbers = [("quoted seq" if quoted else "seq", step.seq, step.from_us or quoted)]
    if "ACK" in step.what:  # without the flag the field means nothing
        numbers.append(("ack", step.ack, not step.from_us))
    for name, number, ours in numbers:
        if number is not None:
            origin = origins.get((step.our_port, ours), number)
            parts.append(f"{name}={number - origin & 0xFFFF_FFFF}")
    for name, value in (("win", step.window), ("mss", step.mss)):
        if value is not None:
            parts.append(f"{name}={value}")
    return " ".join(parts)


def _arrow(step: Step, clock: str, label: str) -> list[str]:
    router = "" if step.router is None else f" {printable(step.router)} "
    room = _INNER - len(router) - len("<--  -")
    first, *more = wrap(label, room, break_on_hyphens=False) or [""]
    shaft = f"{first} ".ljust(room + 1, "-")
    line = f"-- {shaft}->" if step.from_us else f"<- {shaft}--{router}"
    notes = [f"   {part}" for text in (" ".join(more), printable(step.note)) for part in wrap(text, _INNER - 6)]
    return [_rails(line, clock), *map(_rails, notes)]


def _conclusion(verdict: Verdict) -> list[str]:
    """The verdict, then a sentence for each word of its evidence."""
    lines = wrap(f"{verdict.state} ({verdict.reason}): {reason_phrase(verdict.reason)}", WIDTH, subsequent_indent="  ")
    for word in verdict.evidence:
        text = f"{printable(word)}: {evidence_sentence(word)}"
        lines += wrap(text, WIDTH, initial_indent="  ", subsequent_indent="    ")
    return lines
