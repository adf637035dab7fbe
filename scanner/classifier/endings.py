"""Resets that end a connection. They are no answer to a SYN and contradict none.

A reset that answers a SYN has the sequence number 0, and one that ends a connection has the number that follows what
its sender has sent (RFC 9293, 3.10.7.1 and 3.5.3). So behind a SYN/ACK, a reset with a later number than the SYN/ACK's
ends the connection, or what was half of one. The two may stand in any order in the file: the number of the first one is
kept in the flow.

Limit: of a flow that was forgotten in between the number is not known, and its reset counts as an answer.
"""

import numpy as np
import numpy.typing as npt

from ..packet.headers import Bools, Ints, Rows
from ..packet.parse import Segments
from ..verdict.ledger import Ledger
from ..verdict.table import Codes, Reason

_SYN_ACK, _RESET = (np.uint32(1 << reason) for reason in (Reason.SYN_ACK, Reason.RESET))


def ends(table: Rows, ledger: Ledger, flow: Ints, segments: Segments, reason: Codes, ending: np.uint16) -> Bools:
    """Which of these replies end a connection, bool[n]; resets that came before their SYN/ACK leave the ledger.

    `table` is FLOW, and `flow` names its row for each reply. `ending`: the mark of flows with a reset that has a
    sequence number.
    """
    seq = segments.seq
    accepted = np.flatnonzero(reason == Reason.SYN_ACK)
    if accepted.size:
        at = flow[accepted]
        early = np.flatnonzero(table["marks"][at] & ending > 0)
        if early.size:
            seen = ledger.records(at[early])["seen"]
            early = early[(seen & _RESET > 0) & (seen & _SYN_ACK == 0)]
            early = early[_later(table["reply_seq"][at[early]], seq[accepted[early]])]
            ledger.forget(np.unique(at[early]), Reason.RESET)
        table["reply_seq"][at] = seq[accepted]
    reset = np.flatnonzero((reason == Reason.RESET) & ~segments.icmp & (seq != 0))
    ended = np.zeros(len(flow), np.bool_)
    if reset.size:
        at = flow[reset]
        opened = (ledger.records(at)["seen"] & _SYN_ACK > 0) | np.isin(at, flow[accepted])
        ended[reset] = opened & _later(seq[reset], table["reply_seq"][at])
        table["reply_seq"][at[~opened]] = seq[reset[~opened]]
    return ended


def _later(number: npt.NDArray[np.uint32], other: npt.NDArray[np.uint32]) -> Bools:
    """Which sequence numbers come behind others, modulo 2^32."""
    return np.asarray((number - other).astype(np.uint32).view(np.int32) > 0)
