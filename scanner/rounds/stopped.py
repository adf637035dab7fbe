"""Hosts and networks that answered and then stopped: an outage, a ban, or the end of a host.

Targets are probed in random order, so the answers of a host are spread over its probes. A host whose answers all came
in an early part has stopped, if chance explains that with less than one in a million. With s answers among its first t
probes and none among the u that followed, the chance is (t / (t + u))^s. Each control probe that is lost after the last
answer makes it smaller: losses come in runs, and the chance that a run goes on is taken from the earlier ones. The same
is tried for each network and for the whole window, because hosts with few ports show too little alone.

A suspect is not probed any further, except by control probes. If it answers again, it was an outage: what was probed
meanwhile is probed again. After `BAN_SECONDS` without an answer it has stopped, if the lost control probes alone
exclude chance, and the last of them left near the end of that time. A host with few answers gets few control probes,
so a suspect that is silent for `WAITED_SECONDS` has stopped in any case: no window waits longer for it.

Where this machine refuses at least half of the probes that followed the last answer, nothing is suspected: the silence
is our own.

Limit: a host that stops after its last port was probed shows only by its control probes.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from ..packet.addresses import network_text, networks, to_text
from ..packet.headers import Bools, Ints
from ..verdict.table import Rank
from .control import Outcomes
from .trips import SECOND

if TYPE_CHECKING:
    from .window import Window

CHANCE = 1e-6
IDLE_SECONDS, BAN_SECONDS = 1.0, 5.0  # without an answer: before a host is suspected, and before it has stopped
LONGER, MOST_SECONDS = 4, 10.0  # times as long as any outage before, but no longer than this
WAITED_SECONDS = 20.0  # without an answer: no suspect is waited for any longer
LAST_SECONDS = 1.0  # that the last control probe has had
LEAST_RUN = 2  # control probes lost in a row on a path of which nothing is known
LOSSY_RUN = 10  # the same for hosts that answered no probe of the first pass: most of them lose nearly everything
LATEST_NS = 250_000_000  # ns: a network that answered so recently has not stopped
CONTROL_A_LOOK = 20  # control probes to suspects at once


class History(NamedTuple):
    """What a window knows of its hosts. Times are ns."""

    last_answer: Ints  # int64[hosts]; 0: none
    answers: Ints  # int64[hosts], in the first pass
    width: int
    reached: float  # share of the first pass that has been sent
    reached_at: npt.NDArray[np.float64]  # float64[hosts]: that share at the last answer of each host
    control: Outcomes
    control_host: Ints
    longest_outage: int  # of hosts that answered again, ns
    least_run: int  # control probes lost in a row that surprise nobody
    refused: Ints  # int64[hosts]: targets that the first pass came to, and this machine refused to send to


def suspects(history: History, hosts: npt.NDArray[np.void], now: int) -> tuple[Bools, Bools]:
    """Which hosts have answered and no longer do, bool[hosts]; and for which of them chance by far excludes that.

    Each host is looked at alone, with its network (ADDRESS[hosts]), and all together.
    """
    heard = history.last_answer > 0
    suspected, sure = np.zeros((2, len(heard)), np.bool_)
    if not (heard & (now - history.last_answer > IDLE_SECONDS * SECOND)).any():
        return suspected, sure
    by_network = np.unique(networks(hosts), return_inverse=True)[1].ravel()
    for group in (np.arange(len(heard)), by_network, np.zeros(len(heard), np.int64)):
        ports, probes, long = _chances(history, group, now)
        suspected |= (ports + probes < np.log(CHANCE))[group] & heard
        sure |= (long & (probes < np.log(CHANCE)))[group] & heard
    return suspected, sure


def _chances(
    history: History, group: Ints, now: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], Bools]:  # fmt: skip
    """For each group: logarithms of the chances of its silent ports and lost control probes; whether it lasts long.

    Both are 0 for groups that answered a moment ago.
    """
    groups = int(group.max(initial=-1)) + 1
    last, reached_at, latest = np.zeros(groups, np.int64), np.zeros(groups), np.zeros(groups, np.int64)
    np.maximum.at(last, group, history.last_answer)
    np.maximum.at(reached_at, group, history.reached_at)
    targets = np.bincount(group, minlength=groups) * history.width
    answers = np.bincount(group, history.answers, groups)
    before = np.maximum(reached_at * targets, np.maximum(1, answers))
    after = np.maximum(0, (history.reached - reached_at) * targets)
    after[after <= 2 * np.bincount(group, history.refused, groups)] = 0
    control, of = history.control, group[history.control_host]
    since = (control.sent_at > last[of]) & ~control.back
    due = since & (now - control.sent_at > LAST_SECONDS * SECOND)
    lost = np.bincount(of[due], minlength=groups)
    np.maximum.at(latest, of[due], control.sent_at[due])
    idle = np.where(last > 0, now - last, 0)
    silent = idle > IDLE_SECONDS * SECOND
    ports = answers * np.log(before / (before + after))
    probes = lost * np.log(1 - 1 / _usual_run(control.back[~since], history.least_run))
    least = min(MOST_SECONDS * SECOND, max(BAN_SECONDS * SECOND, LONGER * history.longest_outage))
    long = (idle > least) & (latest - last > least - 2 * LAST_SECONDS * SECOND)
    return np.where(silent, ports, 0.0), np.where(silent, probes, 0.0), long


def _usual_run(back: Bools, least: int) -> float:
    """How many control probes in a row are usually lost where any is. Loss comes in bursts on many paths."""
    edges = np.diff(np.concatenate([[False], ~back, [False]]).astype(np.int8))
    runs, lost = int(np.count_nonzero(edges == 1)), int(np.count_nonzero(~back))
    return (lost + least) / (runs + 1)


def control_targets(rank: npt.NDArray[np.uint8], suspected: Bools, width: int) -> Ints:
    """Targets of suspects that have answered, as many of each: where the next control probes go."""
    answered = (rank.reshape(-1, width) >= Rank.CLOSED) & suspected[:, None]
    turn = np.cumsum(answered, axis=1)
    target_id = np.flatnonzero(answered)
    order = np.argsort(turn.ravel()[target_id], kind="stable")
    return np.asarray(target_id[order][:CONTROL_A_LOOK])


def look(window: "Window", now: int, stopped: dict[int, int]) -> int:
    """Find hosts of a window that have stopped answering. They are spared until they answer again, or for good.

    Returns how many control probes they are to get now; these tell of the hosts and not of the path.
    `stopped`: the last answer (ns) of each network whose hosts have all stopped, in whichever window. It is kept here.
    """
    for network in np.unique(networks(window.hosts[window.last_answer > now - LATEST_NS])).tolist():
        stopped.pop(network, None)
    back = window.suspect & (now - window.last_answer < IDLE_SECONDS * SECOND)
    if back.any():
        window.suspect &= ~back
        window.ledger.give_up(np.repeat(back, window.width), again=True)
        window.void.add(window.passes.pass_no)  # it has not come to every silent target
        window.outages.append((int(window.idle_since[back].min()), now))
    spared = window.ledger.given_up().reshape(-1, window.width).any(axis=1)
    concerned = (window.stopped_at == 0) & (window.silent_hosts | spared) & (window.last_answer > 0)
    if not (concerned | window.suspect).any():  # whoever has answered has answered from every port
        return 0
    history = _history(window)
    suspected, sure = (concerned & found for found in suspects(history, window.hosts, now))
    new = suspected & ~window.suspect
    if new.any():
        window.suspect |= new
        window.idle_since[new] = window.last_answer[new]
        window.ledger.give_up(np.repeat(new, window.width))
    if window.suspect.any():
        gone = window.suspect & (sure | (now - window.last_answer > WAITED_SECONDS * SECOND))
        window.stopped_at[gone] = window.last_answer[gone]
        window.stopped_from[gone] = history.reached_at[gone]
        window.suspect &= ~gone
        for network in np.unique(networks(window.hosts[gone])).tolist():
            mine = _doubtful(window, network)
            if mine.sum() > 1 and (window.stopped_at[mine] > 0).all():
                # About when the probe of the last answer left, and rather too early: "unknown" is the weaker claim.
                trip = window.trips.usual(mine).astype(np.float64) * SECOND
                stopped[network] = int((window.last_answer[mine] - 2 * trip).max())
        target_id = control_targets(window.ledger.rank(slice(None)), window.suspect, window.width)
        window.control.insist(target_id)
        return len(target_id)
    return 0


def stop_unheard(window: "Window", stopped: dict[int, int]) -> None:
    """Before a window closes: hosts that never answered, in networks that have stopped, may have been there."""
    if stopped:
        number = networks(window.hosts)
        for network in set(np.unique(number).tolist()) & stopped.keys():
            window.stopped_at[(number == network) & (window.last_answer == 0)] = stopped[network]


def _history(window: "Window") -> History:
    control, passes = window.control.outcomes(), window.passes
    host = control.target_id // window.width
    answered = np.flatnonzero(window.first_pass == 1)
    # The latest probe of the first pass that each host answered, by its place in the order. An answer takes time, so
    # the moment when it came says less. Who answered a later pass has seen all of the first one.
    reached_at = np.zeros(len(window.hosts))
    np.maximum.at(reached_at, answered // window.width, (passes.turn(answered) + 1) / max(1, window.ledger.n))
    back = control.back
    np.maximum.at(reached_at, host[back], passes.progress_at(control.sent_at[back] - 1))
    later = np.flatnonzero(window.first_pass > 1)
    later = later[window.ledger.records(later)["pass"] > 1]  # and not a SYN/ACK that was sent again
    reached_at[later // window.width] = 1.0
    reached = passes.progress if passes.pass_no == 1 else 1.0
    answers = window.by_host(window.first_pass == 1)
    least = LOSSY_RUN if window.relative else LEAST_RUN
    longest = max((ended - began for began, ended in window.outages), default=0)
    refused = np.zeros(len(window.hosts), np.int64)
    if passes.refusals:
        unprobed = np.flatnonzero(window.ledger.silent(slice(None)) & ~window.ledger.was_probed())
        unprobed = unprobed[passes.came_to(unprobed)]
        refused = np.bincount(unprobed // window.width, minlength=len(window.hosts))
    return History(
        window.last_answer, answers, window.width, reached, reached_at, control, host, longest, least, refused
    )


def stopped_hosts(window: "Window") -> list[tuple[str, int]]:
    """Hosts that stopped answering, or their network, and how many probes each had got by then."""
    stopped = np.flatnonzero((window.stopped_at > 0) & (window.last_answer > 0))
    reached = window.stopped_from[stopped]
    control = window.control.outcomes()
    known = control.sent_at <= window.stopped_at[control.target_id // window.width]
    counts = np.bincount(control.target_id[known] // window.width, minlength=len(window.hosts))[stopped]
    probes = np.maximum(1, np.rint(reached * window.width).astype(np.int64) + counts)
    number, at, hosts = np.unique(networks(window.hosts[stopped]), return_inverse=True, return_counts=True)
    heard = np.bincount(
        np.searchsorted(number, networks(window.hosts[_doubtful(window, number)])), minlength=len(number)
    )
    whole = (hosts > 1) & (hosts == heard)  # every host of the network that has something left to answer
    single = ~whole[at.ravel()]
    named = list(zip(to_text(window.hosts[stopped[single]]), probes[single].tolist(), strict=True))
    return named + [
        (network_text(one), _probes_until(window, networks(window.hosts) == np.uint64(one)))
        for one in number[whole].tolist()
    ]


def _probes_until(window: "Window", mine: Bools) -> int:
    """How many probes these hosts (bool[hosts]) had got when the probe left that they answered last."""
    trip = window.trips.usual(mine).astype(np.float64) * SECOND
    last = int((window.last_answer[mine] - trip).max())
    target_id = np.flatnonzero(np.repeat(mine, window.width))
    sent = window.sent_at(target_id, np.ones(len(target_id), np.uint8))
    control = window.control.outcomes()
    known = mine[control.target_id // window.width] & (control.sent_at <= last)
    return int(np.count_nonzero((sent > 0) & (sent <= last))) + int(np.count_nonzero(known))


def _doubtful(window: "Window", network: npt.NDArray[np.uint64] | int) -> Bools:
    """bool[hosts]: hosts of these networks that have answered, but not from every port."""
    mine = np.isin(networks(window.hosts), network) & (window.last_answer > 0)
    return np.asarray(mine & (window.by_host(~window.ledger.was_answered()) > 0))
