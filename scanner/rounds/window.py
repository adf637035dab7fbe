"""A window: a range of hosts with all their ports, tracked from the first probe to the verdict.

A window takes whole hosts. So what the replies of a host show together (evidence) is known when the window closes,
and each row leaves once, complete. The id of a target inside the window is host index × ports + port index. The place
of its probe in a pass comes from a permutation of those ids.

On a link where frames need the MAC address of the host, the window first sweeps its hosts. Hosts that never answer
are absent, and none of their ports is probed. A window may split after its first queries or its first probes: hosts
that have answered go on at their pace, and the others go on in a window of their own, with more patience.

A window is told what was sent and what came back; frames and sockets are the business of the scan.
"""

import numpy as np
import numpy.typing as npt

from ..packet.headers import Bools, Ints, Rows
from ..verdict import loss
from ..verdict.details import ReplyDetails
from ..verdict.evidence import rows_to_check
from ..verdict.ledger import Ledger, Replies
from ..verdict.loss import Bound, Estimate
from ..verdict.table import Rank
from .checks import Checks
from .control import ControlProbes, quota
from .lifecycle import CHECK_STATES, SWEEP_STATES, WindowState
from .measure import assess
from .pacing import HostPace
from .passes import Passes
from .schedule import HostRange
from .sweep import Sweep
from .trips import HostTrips
from .waits import Waits

BYTES_A_TARGET, BYTES_A_RECORD, BYTES_A_HOST = 6, 44, 64


class Window:
    """The targets of a host range: target id = host index × ports + port index."""

    def __init__(
        self, host_range: HostRange, hosts: Rows, ports: npt.NDArray[np.uint16], key: int, *,
        needs_macs: bool = False, own_trips: bool = False, check_passes: range = range(0),
    ) -> None:  # fmt: skip
        """`hosts` are those of the range, ADDRESS[n]; `key` orders the passes.

        `check_passes`: the pass numbers of the source ports for check probes; none: nothing can be tested.
        With `own_trips` the scan measures the round trip of each target itself, in `target_trips` (ns; -1: none yet).
        """
        self.host_range, self.hosts, self.ports = host_range, hosts, ports
        self.width = len(ports)
        self.ledger = Ledger(len(hosts) * self.width)
        self.passes = Passes(self.ledger, key)
        self.control = ControlProbes()
        self.sweep = Sweep(len(hosts), key) if needs_macs else None
        self.checks: Checks | None = None  # from the state CHECKING on, where there is something to test
        self.state = WindowState.SWEEPING if self.sweep else WindowState.PROBING
        self.interrupted = False
        self.is_rest = host_range.chosen is not None  # of a window that has split
        self.details = ReplyDetails()
        self.target_trips: Ints | None = np.full(self.ledger.n, -1, np.int64) if own_trips else None
        self.open_everywhere = np.zeros(len(hosts), np.bool_)  # hosts that are open on control ports, too
        self.estimate = self.unheard_estimate = Estimate(0.0, None)
        self.missed_with_hosts = 0.0  # expected targets of hosts whose every answer to the sweep was lost
        self.trips = HostTrips(len(hosts))
        self.last_answer = np.zeros(len(hosts), np.int64)  # of each host, ns; 0: it has never answered
        self.stopped_at = np.zeros(len(hosts), np.int64)  # the last answer of hosts that have stopped answering, ns
        self.stopped_from = np.ones(len(hosts))  # the share of the first pass that they had seen then
        self.void: set[int] = set()  # passes that tell nothing of the loss: too fast a rate, or an outage
        self.first_pass = np.zeros(self.ledger.n, np.uint8)  # that each target's first TCP answer answers; 0: none
        self.relative: Window | None = None  # the other part of a window that has split
        self._key, self._all_hosts, self._swept, self._check_passes = key, host_range, False, check_passes
        self._moved = np.zeros(len(hosts), np.bool_)  # hosts that the other part of a split window has taken over
        self.suspect = np.zeros(len(hosts), np.bool_)  # hosts that may have stopped answering
        self.idle_since = np.zeros(len(hosts), np.int64)  # the last answer of hosts when they became suspects, ns
        self.outages: list[tuple[int, int]] = []  # times in which hosts did not answer that do so now, ns
        self.assessed: tuple[int, ...] = ()  # what the latest estimates were made of
        self._eager_at = 0  # probes of the pass that have had such control probes
        self.pace: HostPace | None = None
        self.folds, self.waits = 0, Waits()

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

    @property
    def memory(self) -> int:
        """About how many bytes the window takes."""
        return BYTES_A_TARGET * self.ledger.n + BYTES_A_RECORD * self.ledger.answered + BYTES_A_HOST * len(self.hosts)

    def begin_pass(self, now: int) -> None:
        """The next pass. A pass of probes brings its control probes."""
        if self.current is self.passes:
            answered = np.flatnonzero(self.ledger.rank(slice(None)) >= Rank.CLOSED)
            silent = self.ledger.n - self.ledger.answered - self.ledger.missing
            self.control.begin(answered, max(loss.CONTROL_PROBES, quota(silent, None)))
        self.current.begin(now)

    def allow_control(self, most: int | None, eager: bool = False) -> None:
        """Let control probes leave along with the probes of the pass; in all at most `most` of them in the pass.

        `eager`: one for every two probes from now on.
        """
        handed = self.passes.handed
        since = min(self._eager_at, handed) if eager else handed  # a new pass counts from 0
        if pairs := (handed - since) // 2:
            self.control.allow_more(pairs)
        self._eager_at = since + 2 * pairs
        if self.passes.pass_no == 1:
            self.control.allow(quota(handed, most))
        else:  # there are few probes, and a number that is worth counting is spread over them
            most_of_pass = max(loss.CONTROL_PROBES, quota(handed, most))
            self.control.allow(int(self.passes.progress * most_of_pass))

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
        hosts = len(self.hosts)
        return self.checks.tested(hosts, self.width) if self.checks else np.zeros(hosts, np.bool_)

    def by_host(self, targets: Bools) -> Ints:
        """How many of these targets (bool[targets]) each host has."""
        return np.asarray(targets.reshape(-1, self.width).sum(axis=1, dtype=np.int64))

    @property
    def silent_hosts(self) -> Bools:
        """Which hosts have silent targets."""
        return np.asarray(self.ledger.silent(slice(None)).reshape(-1, self.width).any(axis=1))

    @property
    def unheard(self) -> Bools:
        """Which hosts have silent targets and have never answered."""
        return np.asarray(self.silent_hosts & (self.last_answer == 0))

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

    @property
    def may_split(self) -> bool:
        """Whether the first pass shows some hosts that have answered, and others that have not."""
        if self.sweeping and self.sweep:
            return self.sweep.passes.pass_no == 1 and self.sweep.answered > 0 and not self.is_rest
        if self.is_rest or self.passes.pass_no != 1 or self.target_trips is not None or not self.last_answer.any():
            return False
        return bool(self.unheard.any())

    def split(self) -> "Window":
        """Keep the hosts that have answered; returns the window of the others, which waits longer."""
        sweeping = self.sweeping
        assert self.sweep or not sweeping
        going = self.sweep.silent() if sweeping and self.sweep else self.unheard
        moved = np.flatnonzero(going)
        host_pos = self._all_hosts.host_pos()
        self._moved = self._moved | going
        self.host_range = self._all_hosts._replace(chosen=host_pos[~self._moved])
        rest = Window(
            self._all_hosts._replace(chosen=host_pos[moved]), self.hosts[moved], self.ports, self._key,
            needs_macs=self.sweep is not None, check_passes=self._check_passes,
        )  # fmt: skip
        rest.relative, rest.details = self, self.details
        if self.sweep and rest.sweep:
            rest.sweep.continue_from(self.sweep, moved)
        if sweeping:
            rest.state = WindowState.SWEPT
            self.end_sweep()
        else:
            rest.state = WindowState.PROBED
            rest._take_over(self, moved)
            assess(rest)
        return rest

    def _take_over(self, other: "Window", hosts: Ints) -> None:
        """Go on with these hosts of another window, which has probed them."""
        width = self.width

        def renumber(target_id: Ints) -> Ints:
            return hosts[target_id // width] * width + target_id % width

        self.ledger = other.ledger.move_out(renumber(np.arange(self.ledger.n)))
        self.passes.tracker = self.ledger
        self.passes.continue_from(other.passes, renumber)
        self.control.pass_no = other.control.pass_no

    @property
    def down(self) -> Bools:
        """bool[hosts]: queried in every pass of the sweep, and silent."""
        if self.sweep is None or not self._swept:  # a sweep that was interrupted says nothing of silent hosts
            return np.zeros(len(self.hosts), np.bool_)
        return self.sweep.silent() & ~self._moved

    # ── replies ──

    def fold(self, target_id: Ints, record: Rows, tcp: Bools, resent: Bools | None = None) -> tuple[Ints, Ints]:
        """Take in replies: RECORD[m], and which of them are TCP. Returns the rows of first answers, int64[k], and when
        the control probe that each reply answers left (ns, or 0), int64[m].

        `resent` marks late SYN/ACKs that the host repeated by itself. For the loss they are no answer to the pass that
        they acknowledge, in which nothing came, but a discovery in the present one.
        """  # fmt: skip
        answers_pass, prompt = record["pass"], tcp
        if resent is not None and resent.any():
            answers_pass, prompt = np.where(resent, self.passes.pass_no, answers_pass), tcp & ~resent
        back = np.zeros(len(target_id), np.int64)
        back[prompt] = self.control.credit(target_id[prompt], record["pass"][prompt])
        if self.checks:
            self.checks.credit(target_id, record["pass"])
        self.folds += 1
        # A host that has gone may still repeat its answer to a probe from before.
        new = (tcp & (self.first_pass[target_id] == 0)) | (back > 0)
        np.maximum.at(self.last_answer, target_id[new] // self.width, record["time"][new])
        fresh = self._fold_records(target_id, record)
        row = np.flatnonzero(tcp & (self.first_pass[target_id] == 0))
        # A target may answer twice in a batch: the earlier row is written last.
        self.first_pass[target_id[row[::-1]]] = np.minimum(answers_pass[row[::-1]], self.passes.pass_no)
        if self.control.pass_no:
            self.control.offer(target_id[fresh[tcp[fresh]]])
        return fresh, back

    def _fold_records(self, target_id: Ints, record: Rows) -> Ints:
        if not self.control.repeated:
            return self.ledger.fold(Replies(target_id, record))
        # A second answer from a port that control probes used twice is no repeat of the host.
        single = ~self.control.answers_repeated(target_id, record["pass"]) | ~self.ledger.was_answered()[target_id]
        kept = np.flatnonzero(single)
        return np.asarray(kept[self.ledger.fold(Replies(target_id[kept], record[kept]))])

    def sent_at(self, target_id: Ints, pass_no: npt.NDArray[np.uint8]) -> Ints:
        """When the probe of that pass to each target left, ns; 0 where that is not known."""
        return self.passes.sent_at(target_id, pass_no)

    @property
    def responders(self) -> int:
        """Targets with a TCP answer."""
        return int(np.count_nonzero(self.first_pass))

    @property
    def all_answered(self) -> bool:
        """Whether no host (in a sweep), target or check probe is silent."""
        if self.checking:
            return self.checks is None or not self.checks.silent().any()
        if self.sweeping and self.sweep:
            return self.sweep.answered >= self.sweep.n
        if self.ledger.answered + self.ledger.missing >= self.ledger.n:
            return True
        return bool(self.stopped_at.any()) and not self.suspect.any() and not self.ledger.silent(slice(None)).any()

    # ── loss ──

    def enough(self, bound: Bound) -> bool:
        """Whether the passes so far are enough."""
        if self.checking and self.checks:
            return self.checks.enough
        if self.sweeping and self.sweep:
            # A host missed here costs all its targets, so the bound is divided by them.
            missed = bound.missed if bound.share is None else bound.share
            return self.sweep.enough(missed / self.width)
        assess(self)
        if self.passes.complete >= bound.passes:
            return True
        tell, responders = self.passes.complete - len(self.void), self.responders
        heard = not responders or bound.reached(tell, self.estimate, responders)
        return heard and (not self.unheard.any() or bound.reached(tell, self.unheard_estimate, responders))
