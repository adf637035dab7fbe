"""What connect() can say about a target: an error number → a reason.

Some errors speak of this machine and not of the target (`RETRY`, `REFUSALS`). Any other error stops the scan
with its name.

Limit: the kernel maps several ICMP codes to one error: a port unreachable arrives as "refused", a prohibited host as
"unreachable".

A firewall rule that drops our SYNs on their way out is not told by connect(): they look like any silence. One that
rejects them looks like a target that refuses, or like an unreachable one. A gateway that answers no ARP query looks
like an unreachable target, because the kernel sends itself an ICMP error for it.

Sources: connect(2), tcp(7); net/ipv4/icmp.c (icmp_err_convert); net/ipv4/tcp_input.c (tcp_reset: ECONNREFUSED only
while the SYN is out, ECONNRESET only after the SYN/ACK).
"""

import errno
import os

from ..errors import ScanError
from ..verdict.table import Reason

RETRY = Reason.NONE  # the error says nothing of the target: this machine was short of something

OUTCOMES: dict[int, Reason] = {
    0: Reason.SYN_ACK,
    errno.ECONNRESET: Reason.SYN_ACK,  # connected, and reset before we looked
    errno.ECONNREFUSED: Reason.CONN_REFUSED,
    errno.EACCES: Reason.ADMIN_PROHIBITED,
    errno.EPERM: Reason.ADMIN_PROHIBITED,
    errno.ENOPROTOOPT: Reason.PROTO_UNREACH,
    errno.EHOSTUNREACH: Reason.HOST_UNREACH,
    errno.ENETUNREACH: Reason.NET_UNREACH,
    errno.ENONET: Reason.DEST_UNREACH,
    errno.ETIMEDOUT: Reason.NO_RESPONSE,  # also when we gave up ourselves
    errno.EHOSTDOWN: Reason.NO_RESPONSE,
    errno.EMFILE: RETRY,
    errno.ENFILE: RETRY,
    errno.EADDRNOTAVAIL: RETRY,
    errno.ENOBUFS: RETRY,
}

# What connect() itself returns at once is no word of the target but of this machine: its firewall or security module
# (EPERM), a prohibiting rule (EACCES), no route. Later, as the error of a socket, the same numbers are ICMP.
GONE = (errno.ENETUNREACH, errno.ENETDOWN)
REFUSALS = (errno.EPERM, errno.EACCES, *GONE)

ABOUT_TARGET = {code for code, reason in OUTCOMES.items() if reason is not RETRY}


def error_text(code: int) -> str:
    """The error number's name and words."""
    return f"{errno.errorcode.get(code, code)} ({os.strerror(code)})"


def unexpected(code: int) -> ScanError:
    """The error that stops the scan for any other error number."""
    hint = "a link-local address needs a zone (fe80::1%eth0)" if code == errno.EINVAL else "see connect(2)"
    return ScanError(f"connect() failed with {error_text(code)}: {hint}")
