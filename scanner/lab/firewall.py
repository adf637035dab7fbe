"""One nftables rule for each way in which a port can answer.

The scanner's decision table has a row for every ICMP code, for silence, for forged resets and for SYN proxies.
`ACTIONS` says how a Linux firewall produces each of them, in IPv4 and in IPv6. The kernel rejects with any code
number, also with one that nft has no name for. So a real kernel, and not a packet of ours, produces nearly every row.

Kernels and nft versions differ. So all rules go in as one transaction; if that fails, each goes in by itself.
What the kernel refuses is returned with the reason and never raised.
Limit: SYNPROXY is installed for IPv4 only, because the IPv6 one answered nothing where it was tried.

Sources: nft(8); net/ipv4/netfilter/nf_reject_ipv4.c; RFC 792, RFC 1812 5.2.7.1, RFC 4443 3.1.
"""

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import NamedTuple

from .namespace import Namespace, first_line


class PortKind(Enum):
    """How a port answers; the value is the word that is printed."""

    OPEN = "open"
    CLOSED = "closed"
    DROP = "drop"
    TCP_RESET = "tcp-reset"
    NET_UNREACHABLE = "net-unreachable"
    HOST_UNREACHABLE = "host-unreachable"
    PROT_UNREACHABLE = "prot-unreachable"
    PORT_UNREACHABLE = "port-unreachable"
    NET_PROHIBITED = "net-prohibited"
    HOST_PROHIBITED = "host-prohibited"
    ADMIN_PROHIBITED = "admin-prohibited"
    HOST_UNKNOWN = "host-unknown"
    BEYOND_SCOPE = "beyond-scope"
    POLICY_FAIL = "policy-fail"
    REJECT_ROUTE = "reject-route"
    SYN_PROXY = "syn-proxy"


class Actions(NamedTuple):
    """What the firewall does with a SYN, per IP version; None where that version has no such answer."""

    v4: str | None
    v6: str | None


Unavailable = dict[tuple[PortKind, int], str]  # (kind, IP version) → why there is no such rule here
PortRanges = Sequence[int | str]  # 80, or "1000-2000"


def _reject(v4: str | int | None, v6: str | int | None = None) -> Actions:
    """Answer with ICMP and ICMPv6 destination unreachable of these codes; the names are those of nft."""
    return Actions(
        None if v4 is None else f"reject with icmp type {v4}",
        None if v6 is None else f"reject with icmpv6 type {v6}",
    )


# OPEN and CLOSED need no rule.
ACTIONS: dict[PortKind, Actions] = {
    PortKind.DROP: Actions("drop", "drop"),
    PortKind.TCP_RESET: Actions("reject with tcp reset", "reject with tcp reset"),
    PortKind.NET_UNREACHABLE: _reject("net-unreachable", "no-route"),
    PortKind.HOST_UNREACHABLE: _reject("host-unreachable", "addr-unreachable"),
    PortKind.PROT_UNREACHABLE: _reject("prot-unreachable"),
    PortKind.PORT_UNREACHABLE: _reject("port-unreachable", "port-unreachable"),
    PortKind.NET_PROHIBITED: _reject("net-prohibited"),
    PortKind.HOST_PROHIBITED: _reject("host-prohibited"),
    PortKind.ADMIN_PROHIBITED: _reject("admin-prohibited", "admin-prohibited"),
    PortKind.HOST_UNKNOWN: _reject(7),
    PortKind.BEYOND_SCOPE: _reject(None, 2),
    PortKind.POLICY_FAIL: _reject(None, "policy-fail"),
    PortKind.REJECT_ROUTE: _reject(None, "reject-route"),
    PortKind.SYN_PROXY: Actions("synproxy mss 1460 wscale 7 timestamp sack-perm", None),
}

# PortRanges gather in a named set, so that a second installation adds to the first instead of contradicting it.
# Only they are tracked; a bare SYN is not, so that the proxy and not conntrack is the first to see it.
_PROXY = """\
add table ip lab
add set ip lab proxied {{ type inet_service ; flags interval ; }}
add element ip lab proxied {ports}
add chain ip lab raw {{ type filter hook prerouting priority -300 ; }}
add chain ip lab proxy {{ type filter hook {hook} priority 0 ; }}
add rule ip lab raw tcp dport @proxied tcp flags & (fin|syn|rst|ack) == syn notrack
add rule ip lab raw tcp dport != @proxied tcp sport != @proxied notrack
add rule ip lab proxy tcp dport @proxied ct state invalid,untracked {action}
add rule ip lab proxy tcp dport @proxied ct state invalid drop
"""


def rules(kind: PortKind, version: int, ports: PortRanges, hook: str = "input") -> str | None:
    """nft commands for ports of one kind in one IP version; None where there is nothing to install."""
    actions = ACTIONS.get(kind, Actions(None, None))
    action = actions.v4 if version == 4 else actions.v6
    if action is None or not ports:
        return None
    many = "{ " + ", ".join(str(port) for port in ports) + " }"
    if kind is PortKind.SYN_PROXY:
        return _PROXY.format(hook=hook, ports=many, action=action)
    return f"add rule inet lab {hook} meta nfproto ipv{version} tcp dport {many} {action}\n"


def load(namespace: Namespace, text: str) -> str | None:
    """Give nft a script as one transaction; None, or its error message in one line."""
    done = namespace.run(["nft", "-f", "-"], text)
    return first_line(done.stderr) if done.returncode else None


def install(namespace: Namespace, ports: Mapping[PortKind, PortRanges], hook: str = "input") -> Unavailable:
    """Install every kind for its ports, IPv4 and IPv6, in the `input` or `forward` hook.

    Returns what the kernel refused, with the reason. ScanError when nft itself is missing.
    """
    base = f"add table inet lab\nadd chain inet lab {hook} {{ type filter hook {hook} priority 0 ; }}\n"
    wanted = {(kind, version): rules(kind, version, ports[kind], hook) for kind in ports for version in (4, 6)}
    scripts = {key: text for key, text in wanted.items() if text is not None}
    refused: Unavailable = {}
    if load(namespace, base + "".join(scripts.values())) is not None:
        messages = {key: load(namespace, base + text) for key, text in scripts.items()}
        refused = {key: message for key, message in messages.items() if message is not None}
    if (PortKind.SYN_PROXY, 4) in scripts and (PortKind.SYN_PROXY, 4) not in refused:
        # Otherwise conntrack takes the client's bare ACK for a connection, and the proxy never sees it.
        namespace.sysctl("net/netfilter/nf_conntrack_tcp_loose", 0)
        namespace.sysctl("net/ipv4/tcp_syncookies", 1)
    return refused
