"""The frames of one call: what the kernel sends for it, counted, and as far as possible sent when we say.

connect() sends a SYN. The kernel sends further frames for the same call, and they count for the rate as well:

- The ACK of the handshake. If TCP_QUICKACK is off, Linux holds it back for up to 200 ms and sends it when the option is
  set. So it leaves when the rate allows it.
- The reset at the end. An established connection is closed by a reset (SO_LINGER with a time of 0), so that no
  TIME_WAIT entries collect here and no FIN exchange follows. It leaves when we close the socket. A socket that never
  connected sends nothing when it closes.
- ACKs of what the target sends, such as a greeting, and SYNs that are repeated after one second. Nothing holds these
  back. TCP_INFO says how many segments have left, and the difference is taken out of the bucket afterwards.

Repeated SYNs leave in groups, because the kernel rounds such a timer up (to 32 ms with HZ 250, to 64 ms with HZ 1000).
So a call that may live so long takes a second token out of the bucket at its start. If the call ends before the kernel
repeats its SYN, the next such call gets that token; the bucket does not, because a returned token is a burst.

Limits: a SYN/ACK that arrives after a call was given up draws a reset of the kernel that nothing here sees. If all
calls under way are answered at once, after an outage, the kernel sends the ACKs for which 200 ms were not enough. The
kernel asks for MAC addresses; the first query for a host on the link is counted, whether it was needed or not, and what
the kernel asks later, or of a gateway, is not.

Sources: net/ipv4/tcp_input.c (tcp_rcv_synsent_state_process), net/ipv4/tcp.c (__tcp_sock_set_quickack, tcp_need_reset),
include/uapi/linux/tcp.h (struct tcp_info: tcpi_segs_out, Linux 4.2), kernel/time/timer.c (the timer wheel).
"""

import socket
import sys
from dataclasses import dataclass
from typing import Generic, TypeVar

from ..rounds.pacing import SECOND, Budget

Owner = TypeVar("Owner")

FIRST_REPEAT = SECOND  # ns after the SYN: TCP_TIMEOUT_INIT
LATER_REPEATS = SECOND * 11 // 10  # ns from then to the next look: by then the kernel's timer of that second has run

INFO_BYTES = 232  # of struct tcp_info
_SEGS_OUT = slice(136, 140)
CLOSED, CLOSE_WAIT = 7, 8  # tcpi_state: reset by the peer, or closed in good order (include/net/tcp_states.h)
_ESTABLISHED = 1
_RESET_ON_CLOSE = b"\1\0\0\0\0\0\0\0"  # struct linger { l_onoff = 1, l_linger = 0 }


@dataclass(slots=True, eq=False)
class Call(Generic[Owner]):
    """A call: whose, to which target, and since when (ns). `fd` is its number in epoll, -1 outside."""

    socket: socket.SocketType
    owner: Owner
    target_id: int
    started: int
    margin: bool = False  # whether it has a token for a repeated SYN
    fd: int = -1
    frames: int = 1  # of those that have left, so many are counted
    ended: int = 0  # ns

    @property
    def met_itself(self) -> bool:
        """Whether a call to our own address was given the very port that it calls, and connected to itself."""
        try:
            return bool(self.socket.getsockname() == self.socket.getpeername())
        except OSError:  # it has been reset meanwhile
            return False

    def hold_ack(self) -> None:
        """Before connect(): the ACK of the handshake waits for `acknowledge`."""
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)

    def acknowledge(self, budget: Budget) -> int:
        """Send the ACK of the handshake. Returns how many frames that counted."""
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        return self._count(self._info(), "ack", budget)

    def look(self, budget: Budget) -> bytes:
        """TCP_INFO of an established connection; what the kernel has sent meanwhile is counted."""
        info = self._info()
        self._count(info, "ack", budget)
        return info

    def expect_repeat(self, budget: Budget) -> None:
        """The kernel sends the SYN again about now."""
        self.frames += 1
        budget.spend("repeat")

    def count_repeats(self, budget: Budget) -> None:
        """Count the SYNs that have left: a repeat that was expected may not have come."""
        self._count(self._info(), "repeat", budget)

    def reset(self, budget: Budget) -> int:
        """Close an established connection by a reset. Returns how many frames that counted."""
        info = self._info()
        frames = self._count(info, "ack", budget)
        if info[0] in (_ESTABLISHED, CLOSE_WAIT):
            budget.spend("reset")
            frames += 1
        self.close()
        return frames

    def close(self) -> None:
        """Close at once: an established connection by a reset that is not counted, a call under way without a frame."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.socket.close()

    def _info(self) -> bytes:
        return self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, INFO_BYTES)

    def _count(self, info: bytes, kind: str, budget: Budget) -> int:
        left = int.from_bytes(info[_SEGS_OUT], sys.byteorder)
        new = left - self.frames if left else 0  # 0: this kernel does not say
        if new:
            self.frames += new
            budget.spend(kind, new)
        return new
