"""What a window shows of the loss, as the columns that the estimates need.

The estimates (`verdict.loss`) count by host and pass; a window keeps one byte and some records a target. These
functions gather the counts when a pass is over. Passes that tell nothing (`Window.void`) are left out: a target that
first answered in one of them is known, but says nothing of the loss.
"""

from typing import TYPE_CHECKING

import numpy as np

from ..packet.addresses import networks
from ..packet.headers import Ints
from ..verdict import loss
from ..verdict.loss import Estimate, HostAnswers
from .control import Outcomes

if TYPE_CHECKING:
    from .window import Window

SURPRISE = 1e-3  # chance below which lost control probes are an outage
MOST_VOID = 3  # passes that are left out: where more fail, failing is what the path does
SAMPLE = 4096  # hosts without a silent target that the loss estimate looks at


def assess(window: "Window") -> None:
    """Estimate what was probably missed so far, on hosts that have answered and on those that never have."""
    relative = window if window.relative is None else window.relative
    state = window.folds, window.passes.complete, len(window.void), int(window.suspect.sum()), relative.folds
    if state == window.assessed:
        return
    window.assessed = state
    tell = window.passes.complete - len(window.void)
    answers = host_answers(window, window.relative) if window.last_answer.any() else None
    if answers and len(answers.passes):
        estimate = loss.estimate_hosts(answers)
    else:  # what answered did so in passes that tell nothing; control probes may tell the loss
        _, sent, lost = pooled(window)
        estimate = Estimate(0.0, lost / sent if sent >= loss.LEAST_TRIALS else None)
    window.estimate = estimate if window.passes.complete >= loss.MIN_PASSES else estimate._replace(loss=None)
    # The other part of a window that has split has the answers, and the control probes.
    answered, sent, lost = pooled(relative)
    if window.relative:  # none of the silent hosts here has answered a pass
        answered = np.pad(answered, (0, max(0, tell - len(answered))))
    unheard = loss.estimate(answered, sent, lost, passes=max(1, tell))
    silent = float(np.count_nonzero(window.unheard)) * window.width
    window.unheard_estimate = unheard._replace(missed=min(unheard.missed, silent))


def judge_pass(window: "Window", overruns: list[tuple[int, int]]) -> None:
    """A pass is over: does it tell anything of the loss? `overruns`: times (ns) in which the path was overrun."""
    passes, number = window.passes, window.passes.pass_no
    sent, lost = control_result(window)
    mute = sent > 0 and lost == sent and not (window.first_pass == number).any()
    window.waits.backoff = 2 * window.waits.backoff if mute else 1.0
    _, before, lost_before = pooled(window)
    usual = (lost_before - lost + 1) / (before - sent + 2 + window.responders)
    overrun = any(began <= passes.last_sent and ended >= passes.began for began, ended in overruns)
    if (overrun or (mute and usual**sent < SURPRISE)) and len(window.void) < MOST_VOID:
        window.void.add(number)


def control_result(window: "Window") -> tuple[int, int]:
    """Control probes of the latest pass: sent, and lost."""
    control = window.control.outcomes()
    latest = control.pass_no == window.passes.pass_no
    return int(np.count_nonzero(latest)), int(np.count_nonzero(latest & ~control.back))


def _columns(window: "Window") -> Ints:
    """The column of each pass (by number) in the counts, from 0; -1: it tells nothing."""
    column = np.full(loss.MAX_PASSES + 2, -1, np.int64)
    void = window.void if window.passes.complete - len(window.void) >= loss.MIN_PASSES else ()
    told = [number for number in range(1, window.passes.complete + 1) if number not in void]
    column[told] = np.arange(len(told))
    return column


def pooled(window: "Window") -> tuple[Ints, int, int]:
    """First answers by pass, and control probes sent and lost, of all hosts together."""
    column, control = _columns(window), _control(window)
    at = column[window.first_pass[window.first_pass > 0]]
    counts = np.bincount(at[at >= 0], minlength=max(1, int(column.max()) + 1))
    return counts, len(control.back), int(np.count_nonzero(~control.back))


def _control(window: "Window") -> Outcomes:
    """Control probes of passes that tell something, to hosts that are not suspected of having stopped."""
    control, column = window.control.outcomes(), _columns(window)
    host = control.target_id // window.width
    silent_since = np.where(window.suspect, window.last_answer, window.stopped_at)[host]
    keep = (column[control.pass_no] >= 0) & ((silent_since == 0) | (control.sent_at < silent_since))
    return Outcomes(control.target_id[keep], control.pass_no[keep], control.sent_at[keep], control.back[keep])


def host_answers(window: "Window", relative: "Window | None") -> HostAnswers:
    """What each host that has answered showed, and those of the other part of a window that has split.

    The others have no silent targets of this window. They show which loss hosts have.
    """
    found = _of_window(window)
    if relative is not None:
        other = _of_window(relative)
        passes = max(found.first.shape[1], other.first.shape[1])
        first = [np.pad(part.first, ((0, 0), (0, passes - part.first.shape[1]))) for part in (found, other)]
        found = HostAnswers(
            np.concatenate(first),
            np.concatenate([found.control, other.control]),
            np.concatenate([found.passes, other.passes]),
            np.concatenate([found.silent, np.zeros_like(other.silent)]),
            np.concatenate([found.group, other.group]),
            None,  # the passes of two windows have other times, so they are not compared
        )
    return found._replace(group=np.unique(found.group, return_inverse=True)[1].ravel())


def _of_window(window: "Window") -> HostAnswers:
    """The same for one window. Of hosts without a silent target a sample is enough. A group is a network number."""
    silent = window.by_host(window.ledger.silent(slice(None)))
    heard = window.last_answer > 0
    doubtful, sure = np.flatnonzero(heard & (silent > 0)), np.flatnonzero(heard & (silent == 0))
    hosts = np.concatenate([doubtful, sure[:: max(1, len(sure) // SAMPLE)]])
    row = np.full(len(window.hosts), -1, np.int64)
    row[hosts] = np.arange(len(hosts))
    column, control = _columns(window), _control(window)
    passes = max(1, int(column.max()) + 1)
    first, counts = np.zeros((len(hosts), passes), np.int64), np.zeros((len(hosts), 2), np.int64)
    target_id = np.flatnonzero(window.first_pass)
    at, number = row[target_id // window.width], column[window.first_pass[target_id]]
    told = (at >= 0) & (number >= 0)
    np.add.at(first, (at[told], number[told]), 1)
    probed = row[control.target_id // window.width]
    np.add.at(counts[:, 0], probed[probed >= 0], 1)
    np.add.at(counts[:, 1], probed[(probed >= 0) & ~control.back], 1)
    by_pass = np.zeros((passes, 2), np.int64)
    np.add.at(by_pass[:, 0], column[control.pass_no], 1)
    np.add.at(by_pass[:, 1], column[control.pass_no[~control.back]], 1)
    # A host whose answers all came in passes that tell nothing shows nothing.
    shown = first.any(axis=1)
    first, counts, hosts = first[shown], counts[shown], hosts[shown]
    # The hosts of a link are one group.
    group = np.zeros(len(hosts), np.int64) if window.sweep else networks(window.hosts[hosts]).astype(np.int64)
    return HostAnswers(first, counts, np.full(len(hosts), passes), silent[hosts], group, by_pass)
