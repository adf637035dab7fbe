"""A window: a range of hosts with all their ports, tracked from the first probe to the verdict.

A window takes whole hosts. So what the replies of a host show together (evidence) is known when the window closes,
and each row leaves once, complete. The id of a target inside the window is host index × ports + port index. The place
of its probe in a pass comes from a permutation of those ids.

On a link where frames need the MAC address of the host, the window first sweeps its hosts. Hosts that never answer
are absent, and none of their ports is probed. A window may split: hosts that have answered are probed at once, and
the silent ones are swept on in a window of their own.

A window is told what was sent and what came back; frames and sockets are the business of the scan.
"""

import numpy as np
import numpy.typing as npt

from ..packet.headers import Bools, Ints, Rows
from ..verdict import loss
from ..verdict.evidence import IcmpSenders, rows_to_check
from ..verdict.ledger import ABSENT, Ledger, Replies
from ..verdict.loss import Bound, Estimate
from ..verdict.table import Rank
from .checks import Checks
from .lifecycle import CHECK_STATES, SWEEP_STATES, WindowState
from .pacing import HostPace
from .passes import ControlProbes, Passes
from .schedule import HostRange
from .sweep import Sweep

LIMITED_ANSWERS = 20  # answers of a host in one pass, before its pace means anything
LIMIT_MARGIN = 1.25  # over the pace that the host showed
LEAST_PASS = 0.001  # seconds


class Window:
    """The targets of a host range: target id = host index × ports + port index."""

    def __init__(
        self, host_range: HostRange, hosts: Rows, ports: npt.NDArray[np.uint16], key: int, *,
        needs_macs: bool = False, own_trips: bool = False, check_passes: range = range(0),
    ) -> None:  # fmt: skip
        """`hosts` are those of the range, ADDRESS[n]; `key` orders the passes.

        `check_passes`: the pass numbers of the source ports for check probes; none: nothing can be tested.

        With `own_trips` the scan measures the round trip of each target itself, in `trips` (ns; -1: none yet).
        """
        self.host_range, self.hosts, self.ports = host_range, hosts, ports
        self.width = len(ports)
        self.ledger = Ledger(len(hosts) * self.width)
        self.passes = Passes(self.ledger, key)
        self.sweep = Sweep(len(hosts), key) if needs_macs else None
        self.checks: Checks | None = None  # from the state CHECKING on, where there is something to test
        self.state = WindowState.SWEEPING if self.sweep else WindowState.PROBING
        self.interrupted = False
        self.is_rest = host_range.chosen is not None  # of a window that has split
        self.senders = IcmpSenders()
        self.trips: Ints | None = np.full(self.ledger.n, -1, np.int64) if own_trips else None
        self.open_everywhere = np.zeros(len(hosts), np.bool_)  # hosts that are open on control ports, too
        self.estimate = Estimate(0.0, None)
        self.missed_with_hosts = 0.0  # expected targets of hosts whose every answer to the sweep was lost
        self._key, self._all_hosts, self._swept, self._check_passes = key, host_range, False, check_passes
        self._moved = np.zeros(len(hosts), np.bool_)  # hosts that the other part of a split window has taken over
        # First TCP answers by host and pass. Hosts with too few ports for an estimate of their own share one line.
        self._apart = self.width >= loss.OWN_ESTIMATE
        self._answered = np.zeros((len(hosts) if self._apart else 1, loss.MAX_PASSES), np.int64)
        self._control = ControlProbes()
        self._pace: HostPace | None = None

    # ── passes ──

    @property
    def sweeping(self) -> bool:
        """Whether queries for MAC addresses are under way, and not probes."""
        return self.state in SWEEP_STATES

    @property
    def current(self) -> Passes:
        """The passes that are under way."""
        if self.checking and self.checks:
            return self.checks.passes
        return self.sweep.passes if self.sweeping and self.sweep else self.passes

    def begin_pass(self, now: int) -> None:
        """The next pass. A pass of probes brings its control probes."""
        probes = self.current is self.passes
        self.current.begin(now, self._control.choose(self.ledger, self.passes.pass_no) if probes else None)

    # ── check probes ──

    @property
    def checking(self) -> bool:
        """Whether the probes that test the evidence are under way."""
        return self.state in CHECK_STATES

    def begin_checks(self, now: int) -> None:
        """Choose what to test, and begin its first pass."""
        if not self._check_passes:
            return
        target_id = np.flatnonzero(self.ledger.rank(slice(None)) == Rank.CLOSED)
        suspects = rows_to_check(target_id // self.width, len(self.hosts), self.ledger.records(target_id))
        if len(suspects.row):
            self.checks = Checks(target_id[suspects.row], suspects, self._check_passes, self._key)
            self.checks.passes.begin(now)

    @property
    def tested(self) -> Bools:
        """bool[hosts]: the evidence of the host was tested."""
        return self.checks.tested(len(self.hosts), self.width) if self.checks else np.zeros(len(self.hosts), np.bool_)

    def limit_hosts(self, now: int) -> None:
        """Before the next pass: slow down hosts that answered this pass about as often as the one before.

        They limit their answers (200 resets a second are common), and only fewer probes a second reach all of them.
        """
        pass_no = self.passes.pass_no
        if pass_no < 2 or not self._apart:
            return
        before, last = self._answered[:, pass_no - 2], self._answered[:, pass_no - 1]
        seconds = max(LEAST_PASS, (now - self.passes.began) * 1e-9)
        limited = np.flatnonzero((last >= LIMITED_ANSWERS) & (last * 2 >= before)).tolist()
        if limited:
            pace = self._pace = self._pace or HostPace(len(self.hosts))
            for host in limited:
                pace.limit(host, last[host] / seconds * LIMIT_MARGIN, now)
            self.passes.admit = lambda target_id, when: pace.admit(target_id // self.width, when)

    # ── hosts ──

    def index_of(self, host_pos: Ints) -> Ints:
        """Positions in the order of the lane, int64[m] → host indices of this window, -1 for other hosts."""
        index = self._all_hosts.index_of(host_pos)
        if self._moved.any():
            index[self._moved[index] & (index >= 0)] = -1
        return index

    def end_sweep(self) -> None:
        """Hosts without an answer are absent: their ports are not probed and have no verdict."""
        assert self.sweep
        absent = self.sweep.silent()
        missing = float(np.count_nonzero(absent & ~self._moved))
        self.missed_with_hosts = min(self.sweep.assess().missed, missing) * self.width
        self.ledger.absent(np.repeat(absent, self.width))
        self._swept = True

    def split(self) -> "Window":
        """Keep the hosts that have answered the sweep; returns the window of the silent ones, still being swept."""
        assert self.sweep
        self._moved = self.sweep.silent()
        host_pos = self.host_range.host_pos()
        silent = self.host_range._replace(chosen=host_pos[self._moved])
        rest = Window(silent, self.hosts[self._moved], self.ports, self._key, needs_macs=True,
                      check_passes=self._check_passes)  # fmt: skip
        self.host_range = self.host_range._replace(chosen=host_pos[~self._moved])
        assert rest.sweep
        rest.sweep.passes.continue_from(self.sweep.passes)
        rest.sweep.first_answers[:] = self.sweep.first_answers
        rest.state = WindowState.SWEPT
        self.end_sweep()
        return rest

    @property
    def down(self) -> Bools:
        """bool[hosts]: queried in every pass of the sweep, and silent."""
        if self.sweep is None or not self._swept:  # a sweep that was interrupted says nothing of silent hosts
            return np.zeros(len(self.hosts), np.bool_)
        return self.sweep.silent() & ~self._moved

    # ── replies ──

    def fold(self, target_id: Ints, record: Rows, tcp: Bools, resent: Bools | None = None) -> Ints:
        """Take in replies: RECORD[m], and which of them are TCP. Returns the rows of first answers.

        `resent` marks late SYN/ACKs that the host repeated by itself. For the loss they are no answer to the pass that
        they acknowledge, in which nothing came, but a discovery in the present one.
        """
        answers_pass = record["pass"]
        prompt = tcp
        if resent is not None and resent.any():
            answers_pass = np.where(resent, self.passes.pass_no, answers_pass)
            prompt = tcp & ~resent
        self._control.credit(target_id, record["pass"], prompt)
        if self.checks:
            self.checks.credit(target_id, record["pass"])
        fresh = self.ledger.fold(Replies(target_id, record))
        first = fresh[tcp[fresh]]
        np.add.at(self._answered, (self._group(target_id[first]), answers_pass[first].astype(np.int64) - 1), 1)
        return fresh

    def sent_at(self, target_id: Ints, pass_no: npt.NDArray[np.uint8]) -> Ints:
        """When the probe of that pass to each target left, ns; 0 where that is not known."""
        return self.passes.sent_at(target_id, pass_no)

    @property
    def responders(self) -> int:
        """Targets with a TCP answer."""
        return int(self._answered.sum())

    @property
    def all_answered(self) -> bool:
        """Whether no host (in a sweep), target or check probe is silent."""
        if self.checking:
            return self.checks is None or not self.checks.silent().any()
        if self.sweeping and self.sweep:
            return self.sweep.answered >= self.sweep.n
        return self.ledger.answered + self.ledger.missing >= self.ledger.n

    # ── loss ──

    def enough(self, bound: Bound) -> bool:
        """Whether the passes so far are enough."""
        if self.checking and self.checks:
            return self.checks.enough
        if self.sweeping and self.sweep:
            # A host missed here costs all its targets, so the bound is divided by them.
            missed = bound.missed if bound.share is None else bound.share
            return self.sweep.enough(missed / self.width)
        return bound.reached(self.passes.complete, self.assess(), self.responders)

    @property
    def control_result(self) -> tuple[int, int]:
        """Control probes of the latest pass: sent, and lost."""
        return self._control.latest

    def assess(self) -> Estimate:
        """What was probably missed so far; never more than there are silent targets."""
        passes, groups = self.passes.complete, len(self._answered)
        control = self._control.counts(self._group, groups)
        gone = self._control.gone(passes, self._group, groups)
        control[gone] = 0  # their lost control probes tell of the host and not of the path
        known = self._answered[:, :passes].any(axis=1)
        unanswered = self.ledger.silent(slice(0, self.ledger.n)).reshape(groups, -1).sum(axis=1)
        estimate = loss.estimate_hosts(
            loss.HostAnswers(
                self._answered[known, :passes], control[known], np.full(groups, passes)[known], unanswered[known],
                np.zeros(groups, np.int64)[known], self._control.by_pass(passes),
            )
        )  # fmt: skip
        silent = self.ledger.n - self.ledger.answered - self.ledger.missing
        missed = estimate.missed + (self._missed_since(gone) if gone.any() else 0.0)
        measured = estimate.loss if passes >= loss.MIN_PASSES else None
        self.estimate = Estimate(min(missed, float(silent)), measured, estimate.variance)
        return self.estimate

    def _missed_since(self, gone: Bools) -> float:
        """Responders to be expected among the targets of hosts that have gone (bool[groups]).

        A host that has gone did not get the probes that followed its last answer. The share of responders among the
        targets before that answer is taken for those after it.
        """
        targets = np.flatnonzero(gone[self._group(np.arange(self.ledger.n))] & (self.ledger.status & ABSENT == 0))
        group, turn = self._group(targets), self.passes.turn(targets)
        answered = self.ledger.rank(targets) >= Rank.CLOSED
        # The turn of the last answer of each group: everything is probed in the order of turns.
        end = np.full(len(gone), -1, np.int64)
        np.maximum.at(end, group[answered], turn[answered])
        before = turn <= end[group]
        # Counts by group: probed while the host was there, answered, and probed in vain afterwards.
        probed, responders, after = (
            np.bincount(group[which], minlength=len(gone)) for which in (before, answered, ~before)
        )
        return float((after * responders / np.maximum(1, probed)).sum())

    def _group(self, target_id: Ints) -> Ints:
        return target_id // self.width if self._apart else np.zeros(len(target_id), np.int64)
