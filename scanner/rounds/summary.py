"""What a scan did, in words: the lines at its end.

A number stands here only if it was measured. Where few probes were lost, the lines say how many of how many, and no
share. What a number leaves out (hosts that seem absent, hosts that never answered) stands beside it as a number of its
own, and a line says where the bound of `--max-missed` does not hold for what is printed.

Limit: the lines are for people and may change. Programs read `--stats`.
"""

from ..packet.unread import ETHERTYPE
from ..verdict.sentences import plural, printable
from .statistics import ScanStats

_OTHER_TRAFFIC = (  # how causes begin
    "other-protocol", "other-icmp", "arp", "not-to-us", "own-probe", "ARP", "not IP", "not-ip", ETHERTYPE,
)  # fmt: skip
_OTHER_FRAMES = (  # kinds that only some scans send
    ("syn-ack", "SYN/ACK"),
    ("handshake", "handshake"),
    ("repeat", "repeated SYN"),
    ("ack", "ACK"),
)
LEAST_LOST = 10  # probes: with fewer the share is not known to one digit
_LEAST_EXPECTED = 0.0001  # responders
MOST_NAMED = 10  # hosts that stopped answering
_LEAST_SENDING = 0.1  # seconds: a shorter scan has no rate worth printing


def summary_lines(stats: ScanStats) -> list[str]:
    """The summary for people, as lines without a line end."""
    sent = stats.sent
    control = f" ({sent['control']:,} of them control probes)" if sent["control"] else ""
    others = "".join(f", {plural(sent[kind], name)}" for kind, name in _OTHER_FRAMES if sent[kind])
    lines = [
        f"{plural(stats.targets, 'target')} in {stats.seconds:.2f} s, {plural(stats.passes, 'pass')}: "
        f"{plural(sent['probe'] + sent['control'], 'probe')}{control}, {plural(sent['query'], 'query')}"
        f"{others} and {plural(sent['reset'], 'reset')} sent"
        f"{_speed(stats)}; "
        f"{plural(stats.replies, 'reply')}" + (f", {stats.late:,} late" if stats.late else ""),
        _trust(stats),
        *_unheard(stats),
    ]
    left_out = ((stats.unresolved, "name without an address"), (stats.unrouted, "address without a route"))
    if any(count for count, _ in left_out):
        lines.append("not scanned: " + ", ".join(_of(count, *what.split(" ", 1)) for count, what in left_out if count))
    if stats.carries and not stats.stopped:  # hosts that stop look like a path that is too narrow
        lines.append(f"the path carries about {stats.carries:,.0f}/s")
    rejected = {cause: count for cause, count in stats.rejected.items() if not cause.startswith(_OTHER_TRAFFIC)}
    if rejected:
        lines.append("rejected: " + ", ".join(f"{count:,} {cause}" for cause, count in sorted(rejected.items())))
    lines += _two_macs(stats)
    if stats.bad_checksums:
        lines.append(f"{plural(stats.bad_checksums, 'reply')} with a wrong checksum, judged like the others")
    lines.append(f"kernel drops: {stats.ring_drops:,} received, {stats.interface_drops:,} sent")
    lines += [f"put off {plural(count, 'time')}: {cause}" for cause, count in sorted(stats.shortages.items())]
    if stats.silent_counted:
        lines.append(
            f"{stats.silent_counted:,} silent targets (filtered, no-response) counted and not listed; --all lists them"
        )
    if stats.interrupted:
        lines.append("interrupted: targets that were not probed, or not long enough ago, have no row")
    return lines if stats.interrupted else lines + _warning(stats)


def _of(count: int, noun: str, rest: str) -> str:
    return f"{plural(count, noun)} {rest}"


def _trust(stats: ScanStats) -> str:
    """The loss, and what it hid on hosts that answered."""
    if stats.interrupted and not stats.responders:
        return "loss not measured: interrupted before a window was over"
    if not stats.responders:
        return "loss not measured: nobody answered" if not stats.answered else "loss not measured: no TCP answer"
    if stats.loss is None:
        if not stats.unmeasured:
            return "loss not measured: the hosts that answered have no silent target"
        return f"loss not measured: {plural(stats.responders, 'target')} answered, in {plural(stats.passes, 'pass')}"
    missed = _number(stats.expected_missed - stats.missed_with_hosts)
    absent = f", and {_number(stats.missed_with_hosts)} on hosts that seem absent" if stats.missed_with_hosts else ""
    return (
        f"{_loss(stats, stats.loss)}; "
        f"expected missed responders: {missed} on {plural(stats.hosts_heard, 'host')} that answered{absent} "
        f"(at most {stats.at_most_missed:,}, with 99% confidence){_above_bound(stats)}"
    )


def _above_bound(stats: ScanStats) -> str:
    """Why more is expected to be missed than --max-missed says; "" if it is not, or if the scan was interrupted."""
    bound, missed = stats.bound, stats.expected_missed - stats.missed_with_hosts
    if bound is None or stats.interrupted or missed < bound.most(stats.responders):
        return ""
    asked = f"{bound.missed:g}" if bound.share is None else f"{100 * bound.share:g}%"
    ended = stats.passes >= bound.passes
    return f", above --max-missed {asked}, " + (
        f"because --retries {bound.passes - 1} ended the passes" if ended else "which is for one window"
    )


def _number(expected: float) -> str:
    if 0 < expected < _LEAST_EXPECTED:
        return f"below {_LEAST_EXPECTED}"
    return f"{expected:,.4f}" if 0 < expected < 10 else f"{expected:,.0f}"


def _loss(stats: ScanStats, share: float) -> str:
    """A share says more than was measured where few probes were lost. Then the numbers themselves are printed.

    Of n probes without a loss, the share that is lost is at most 1 - 0.05^(1/n) with 95 % confidence.
    """
    if stats.lost >= LEAST_LOST:
        return f"loss {share:.1%} a round trip"
    most = (
        f" (at most {100 - 100 * 0.05 ** (1 / stats.tried):.2g}%, with 95% confidence)"
        if stats.tried and not stats.lost
        else ""
    )
    return f"lost {stats.lost} of {plural(stats.tried, 'probe')} to targets that answered{most}"


def _unheard(stats: ScanStats) -> list[str]:
    """What is unknown: hosts that never answered, and hosts that stopped."""
    lines = []
    if stats.hosts_unheard:
        unheard = f"{plural(stats.hosts_unheard, 'host')} never answered"
        there = "it is" if stats.hosts_unheard == 1 else "they are"
        if stats.missed_if_there is None:
            lines.append(f"{unheard}: nobody can tell whether {there} there")
        else:
            lines.append(
                f"{unheard}: if {there} there, about {stats.missed_if_there:,.0f} responders are missed; "
                f"loss as on the others would explain {_number(stats.missed_by_loss)}"
            )
    for name, probes in sorted(stats.stopped.items())[:MOST_NAMED]:
        lines.append(f"{name} stopped answering after {plural(probes, 'probe')} (a ban?)")
    if len(stats.stopped) > MOST_NAMED:
        lines.append(f"{len(stats.stopped) - MOST_NAMED:,} more hosts stopped answering")
    return lines


def _two_macs(stats: ScanStats) -> list[str]:
    lines = [
        f"{printable(name)} answers from more than one MAC address" for name in sorted(stats.two_macs)[:MOST_NAMED]
    ]
    if len(stats.two_macs) > MOST_NAMED:
        lines.append(f"{len(stats.two_macs) - MOST_NAMED:,} or more other addresses do so, too")
    return lines


def _warning(stats: ScanStats) -> list[str]:
    """The last line, in plain words, where the scan does not know enough."""
    if not stats.responders or stats.within_bound:
        return []
    if stats.stopped:
        return ["a host that answered has stopped: what it would have answered is unknown"]
    if stats.unmeasured:
        return ["too little came back to measure the loss; raise --retries"]
    missed = stats.expected_missed + stats.missed_by_loss
    lost = f"about 1 in {max(1.0, 1 / stats.loss):,.0f} answers was lost" if stats.loss else "answers were lost"
    return [f"{lost}, and about {missed:,.0f} responders may be missed; lower --rate, or raise --retries"]


def _speed(stats: ScanStats) -> str:
    if stats.sending_seconds < _LEAST_SENDING:
        return ""
    asked = stats.asked_rate
    allowed = "auto" if asked is None else f"{asked:,.0f}/s allowed" if asked else "unlimited"
    return f" at {stats.rate:,.0f}/s ({allowed})"
