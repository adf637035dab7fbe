"""What the words of a verdict mean, one sentence each.

A row says why in one word (`reset`, `firewall-reset`). Who argues about a port needs the sentence. Table, ladder and
report take it from here, so that it is the same everywhere. A sentence states what was seen and what follows from it,
and no more: evidence is not proof.

A file may hold any word. An unknown one gets a sentence that says so, and `printable` keeps control characters and
letters of other scripts off the terminal.
"""

from functools import lru_cache

from ..errors import escaped
from .table import Reason

EVIDENCE = {
    "host-reset": "The reset came from the host itself: it carries the mark of our probe.",
    "firewall-reset": "Not sent by the stack that sent this host's marked resets, and written as netfilter's REJECT "
                      "writes them: most likely a firewall forged it.",
    "ttl-differs": "The reply's TTL differs from that of the host's other resets: it may come from another machine.",
    "syn-proxy": "The SYN/ACK offers no window at all: a SYN proxy answers here, and whether anybody listens behind it "
                 "is not known.",
    "all-open": "Nearly every probed port of this host answered alike: likely one device answering for all ports, not "
                "that many services.",
    "handshake-completed": "A full handshake was completed on this port.",
    "handshake-refused": "A SYN was answered, but a full handshake was then refused.",
    "silent-after-handshake": "The handshake was completed, and then nothing more came back.",
    "half-open": "The SYN/ACK was answered by a reset, so no connection was made.",
    "repeat": "The same answer came more than once.",
    "late": "The answer came after its pass was over.",
    "probe-not-captured": "The SYN that this answers is not in the capture.",
    "reply-not-captured": "The SYN/ACK is not in the capture, but the connection goes on: the target acknowledges what "
                          "the prober sent.",
    "icmp-quote-truncated": "The ICMP error quotes too little of the probe to show its ports or sequence number.",
    "unverified": "The SYN acknowledges nothing, and no ACK followed that proves where it came from: anybody can have "
                  "sent it.",
    "stopped-answering": "The host had answered, and then stopped for good before this target was probed.",
    "interrupted": "The scan was stopped before the further passes that this target was due.",
    "bad-checksum": "Every reply of this host has a wrong checksum. Kernels drop such frames: likely they are forged, "
                    "or damaged on the way.",
}  # fmt: skip

_CONFLICT = "conflict:"

REASONS = {  # UNPROVED_SYN is printed with the word of SPLIT_HANDSHAKE_SYN
    Reason.NO_RESPONSE: "nothing came back",
    Reason.NET_UNREACH: "an ICMP error says that the network cannot be reached",
    Reason.HOST_UNREACH: "an ICMP error says that the host cannot be reached",
    Reason.PROTO_UNREACH: "an ICMP error says that the host does not speak the protocol",
    Reason.PORT_UNREACH: "an ICMP error says that the port cannot be reached",
    Reason.NET_PROHIBITED: "an ICMP error says that the network is prohibited",
    Reason.HOST_PROHIBITED: "an ICMP error says that the host is prohibited",
    Reason.ADMIN_PROHIBITED: "an ICMP error says that a rule forbids it",
    Reason.DEST_UNREACH: "an ICMP error says that the destination cannot be reached",
    Reason.TIME_EXCEEDED: "an ICMP error says that the probe ran out of hops or time on its way",
    Reason.NO_ROUTE: "an ICMPv6 error says that there is no route",
    Reason.BEYOND_SCOPE: "an ICMPv6 error says that our address has no meaning there",
    Reason.REJECT_ROUTE: "an ICMPv6 error says that the route there rejects",
    Reason.PARAM_PROBLEM: "an ICMPv6 error complains about a header of the probe",
    Reason.RESET: "a reset came back",
    Reason.CONN_REFUSED: "the connection was refused",
    Reason.SYN_ACK: "a SYN/ACK came back",
    Reason.SPLIT_HANDSHAKE_SYN: "a SYN came back, as in a split handshake",
    Reason.CAPTURE_ENDED: "the capture ended too soon after the probe to tell",
    Reason.ONE_WAY_CAPTURE: "the capture holds no packet towards the prober at all",
    Reason.NO_ARP: "no ARP answer came for this address",
    Reason.NO_NDP: "no neighbour advertisement came for this address",
    Reason.REPLY_NOT_CAPTURED: "the capture has no answer to the SYN, but one of the two sides went on",
}
_BY_WORD = {reason.word: sentence for reason, sentence in REASONS.items()}


def evidence_sentence(word: str) -> str:
    """The sentence of an evidence word, `conflict:<reason>` included."""
    if word.startswith(_CONFLICT):
        lost = _BY_WORD.get(word.removeprefix(_CONFLICT), "another answer came")
        return f"The answers contradict each other: {lost} as well, and ranks lower."
    return EVIDENCE.get(word, "This word is not known here.")


def reason_phrase(word: str) -> str:
    """What happened, for the reason as it is printed."""
    return _BY_WORD.get(word, "this reason is not known here")


@lru_cache(maxsize=1 << 12)
def printable(text: str) -> str:
    """Text from outside as plain ASCII: everything else, control characters first, as an escape."""
    return text if text.isascii() and text.isprintable() else text.encode("unicode_escape").decode("ascii")


def titled(ip: str, hostname: str | None) -> str:
    """An address and its name, if it has one: `198.18.0.2 (web.example)`. Letters of any script stay."""
    return f"{ip} ({escaped(hostname)})" if hostname else ip


def placed(title: str, tunnel: str | None, vantage: str | None, capture: str | None) -> str:
    """A host, and where it was seen: in which tunnel, from which vantage point, in which capture."""
    title = f"{title} in {printable(tunnel)}" if tunnel else title
    title = f"{title}, from {printable(vantage)}" if vantage else title
    return f"{title}, capture {escaped(capture)}" if capture else title


def plural(count: int, noun: str) -> str:
    """A number with its noun: `1 pass`, `2 passes`, `1,000 replies`, `0 targets`."""
    if count != 1:
        noun = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{count:,} {noun}"
