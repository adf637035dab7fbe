"""Hosts and networks that answered and then stopped: an outage, a ban, or the end of a host.

Targets are probed in random order, so the answers of a host are spread over its probes. A host whose answers all came
in an early part has stopped, if chance explains that with less than one in a million. With s answers among its first t
probes and none among the u that followed, the chance is (t / (t + u))^s. Each control probe that is lost after the last
answer makes it smaller by the loss of the host. The same is tried for each network and for the whole window, because
hosts with few ports show too little alone.

A suspect is not probed any further, except by control probes. If it answers again, it was an outage: what was probed
meanwhile is probed again. After `BAN_SECONDS` without an answer, with a control probe lost at the end, it has stopped.

Limit: a host that stops after its last port was probed shows only by its control probes.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from ..packet.addresses import networks, to_text
from ..packet.headers import Bools, Ints
from ..verdict.table import Rank
from .control import Outcomes
from .trips import SECOND

if TYPE_CHECKING:
    from .window import Window

CHANCE = 1e-6
IDLE_SECONDS, BAN_SECONDS = 1.0, 5.0  # without an answer: before a host is suspected, and before it has stopped
LAST_SECONDS = 1.0  # that the last control probe has had
LEAST_LOSS, USUAL_WEIGHT = 0.02, 5  # loss that any path may have; control probes that the loss of all counts for
CONTROL_A_LOOK = 8  # control probes to suspects at once


class History(NamedTuple):
    """What a window knows of its hosts. Times are ns."""

    last_answer: Ints  # int64[hosts]; 0: none
    answers: Ints  # int64[hosts], in the first pass
    width: int
    reached: float  # share of the first pass that has been sent
    reached_at: npt.NDArray[np.float64]  # float64[hosts]: that share at the last answer of each host
    control: Outcomes
    control_host: Ints


def suspects(history: History, hosts: npt.NDArray[np.void], now: int) -> Bools:
    """bool[hosts]: which hosts have answered and no longer do, each alone, by network (ADDRESS[hosts]), or together."""
    heard = history.last_answer > 0
    suspected = np.zeros(len(heard), np.bool_)
    if not (heard & (now - history.last_answer > IDLE_SECONDS * SECOND)).any():
        return suspected
    alone = np.arange(len(heard))
    by_network = np.unique(networks(hosts), return_inverse=True)[1].ravel()
    for group in (alone, by_network, np.zeros(len(heard), np.int64)):
        suspected |= (_stopped(history, group, now) < np.log(CHANCE))[group] & heard
    return suspected


def _stopped(history: History, group: Ints, now: int) -> npt.NDArray[np.float64]:
    """The logarithm of the chance that each group still answers; 0 for groups that answered a moment ago."""
    groups = int(group.max(initial=-1)) + 1
    last, reached_at = np.zeros(groups, np.int64), np.zeros(groups)
    np.maximum.at(last, group, history.last_answer)
    np.maximum.at(reached_at, group, history.reached_at)
    targets = np.bincount(group, minlength=groups) * history.width
    answers = np.bincount(group, history.answers, groups)
    before = np.maximum(reached_at * targets, np.maximum(1, answers))
    after = np.maximum(0, (history.reached - reached_at) * targets)
    of = group[history.control_host]
    since = history.control.sent_at > last[of]
    due = now - history.control.sent_at > LAST_SECONDS * SECOND
    lost = np.bincount(of[since & due & ~history.control.back], minlength=groups)
    known, lost_before = (
        np.bincount(of[~since & part], minlength=groups) for part in (due, due & ~history.control.back)
    )
    loss = np.maximum(LEAST_LOSS, (lost_before + 1) / (known + answers + 2))
    chance = answers * np.log(before / (before + after)) + lost * np.log(loss)
    return np.where((last > 0) & (now - last > IDLE_SECONDS * SECOND), chance, 0.0)


def stopped_for_good(history: History, suspected: Bools, now: int) -> Bools:
    """Which suspects have not answered for so long that this is no outage, a last control probe included."""
    latest, answered = np.zeros((2, len(suspected)), np.int64)
    np.maximum.at(latest, history.control_host, history.control.sent_at)
    np.maximum.at(answered, history.control_host[history.control.back], history.control.sent_at[history.control.back])
    tried = (latest > answered) & (latest - history.last_answer > (BAN_SECONDS - 2 * LAST_SECONDS) * SECOND)
    tried &= now - latest > LAST_SECONDS * SECOND
    return np.asarray(suspected & tried & (now - history.last_answer > BAN_SECONDS * SECOND))


def control_targets(rank: npt.NDArray[np.uint8], suspected: Bools, width: int) -> Ints:
    """One target of each of a few suspects that has answered: where the next control probes go."""
    host = np.flatnonzero(suspected)
    host = host[:: max(1, -(-len(host) // CONTROL_A_LOOK))]
    answered = rank.reshape(-1, width)[host] >= Rank.CLOSED
    return np.asarray((host * width + answered.argmax(axis=1))[answered.any(axis=1)])


def look(window: "Window", now: int) -> None:
    """Find hosts of a window that have stopped answering. They are spared until they answer again, or for good."""
    back = window.suspect & (now - window.last_answer < IDLE_SECONDS * SECOND)
    if back.any():
        window.suspect &= ~back
        window.ledger.give_up(np.repeat(back, window.width), again=True)
        window.void.add(window.passes.pass_no)  # it has not come to every silent target
        window.outages.append((int(window.idle_since[back].min()), now))
    if not window.last_answer.any():
        return
    history = _history(window)
    spared = window.ledger.given_up().reshape(-1, window.width).any(axis=1)
    suspected = suspects(history, window.hosts, now) & (window.stopped_at == 0) & (window.silent_hosts | spared)
    new = suspected & ~window.suspect
    if new.any():
        window.suspect |= new
        window.idle_since[new] = window.last_answer[new]
        window.ledger.give_up(np.repeat(new, window.width))
    if window.suspect.any():
        gone = stopped_for_good(history, window.suspect, now)
        # What left after the probe of the last answer, and not after the answer, met the same end.
        trip = (window.trips.usual(gone) * SECOND).astype(np.int64)
        window.stopped_at[gone] = np.maximum(1, window.last_answer[gone] - trip)
        window.suspect &= ~gone
        window.control.insist(control_targets(window.ledger.rank(slice(None)), window.suspect, window.width))


def _history(window: "Window") -> History:
    """When the hosts answered, and how much of the first pass had been sent then."""
    control, passes = window.control.outcomes(), window.passes
    reached = passes.progress if passes.pass_no == 1 else 1.0
    reached_at = passes.progress_at(window.last_answer)
    answers = window.by_host(window.first_pass == 1)
    host = control.target_id // window.width
    return History(window.last_answer, answers, window.width, reached, reached_at, control, host)


def stopped_hosts(window: "Window") -> list[tuple[str, int]]:
    """Hosts that stopped answering, and how many probes each had got by then."""
    stopped = np.flatnonzero(window.stopped_at)
    reached = window.passes.progress_at(window.stopped_at[stopped])
    control = window.control.outcomes()
    known = control.sent_at <= window.stopped_at[control.target_id // window.width]
    counts = np.bincount(control.target_id[known] // window.width, minlength=len(window.hosts))[stopped]
    probes = np.rint(reached * window.width).astype(np.int64) + counts
    return list(zip(to_text(window.hosts[stopped]), probes.tolist(), strict=True))
