"""The life of a window, as one table: state × event → action and next state, and when the step is due.

A window first sweeps its hosts for their MAC addresses where the link needs them. It then probes its targets in
passes until few enough missed responders are expected, and closes. Both kinds of scan follow this table. A connect
scan never sweeps and starts in PROBING.

The rules of a state are tried in order. A rule applies when its event holds and its wait is over. Every wait counts
from the moment when the latest frame of the pass left. A scan only executes the actions; it decides nothing here.

The diagram in ARCHITECTURE.md is generated from this table, and a test keeps it current.
"""

from collections.abc import Callable
from enum import Enum
from typing import NamedTuple


class WindowState(Enum):
    """What a window does at the moment."""

    SWEEPING = "queries for MAC addresses leave"
    SWEPT = "answers to queries are awaited"
    READY = "the hosts to probe are known"
    PROBING = "probes leave"
    PROBED = "replies are awaited"
    CHECKING = "probes that test the evidence leave"
    CHECKED = "replies to them are awaited"
    CLOSED = "rows can be written"


class Event(Enum):
    """What may hold for a window. The scan tests it with the data of the window."""

    ALL_SENT = "every frame of the pass has left"
    ALL_ANSWERED = "no host, target or check probe is silent"
    SOME_SILENT = "a host or target is silent"
    FIRST_ANSWERED = "only some hosts answered the first pass"
    ENOUGH = "few enough missed responders are expected"
    NOT_ENOUGH = "more missed responders are expected"
    STOPPED = "the user stopped the scan"


class Wait(Enum):
    """How long a rule waits after the latest frame left. The scan knows the seconds."""

    NONE = "at once"
    SPLIT = "after the split wait"
    REPLIES = "after the wait for replies"
    NEXT_PASS = "after the wait between passes"
    SILENCE = "after the wait before silence is called"


class Action(Enum):
    """What the scan does for a window."""

    NONE = "-"
    AWAIT = "send no further control probes"
    BEGIN_PASS = "begin the next pass"
    CHECK = "choose what to test"
    SPLIT = "split off the silent hosts"
    END_SWEEP = "mark silent hosts as absent"
    CLOSE = "close"
    CLOSE_EARLY = "close as interrupted"


class Rule(NamedTuple):
    """One cell of the table."""

    event: Event
    wait: Wait
    action: Action
    next: WindowState


TABLE: dict[WindowState, tuple[Rule, ...]] = {
    WindowState.SWEEPING: (Rule(Event.ALL_SENT, Wait.NONE, Action.NONE, WindowState.SWEPT),),
    WindowState.SWEPT: (
        Rule(Event.STOPPED, Wait.NONE, Action.CLOSE_EARLY, WindowState.CLOSED),
        Rule(Event.ALL_ANSWERED, Wait.NONE, Action.END_SWEEP, WindowState.READY),
        # Hosts that answered at once do not wait for hosts that may be absent.
        Rule(Event.FIRST_ANSWERED, Wait.SPLIT, Action.SPLIT, WindowState.READY),
        # A host in power-saving mode answers late.
        Rule(Event.ENOUGH, Wait.SILENCE, Action.END_SWEEP, WindowState.READY),
        Rule(Event.NOT_ENOUGH, Wait.NEXT_PASS, Action.BEGIN_PASS, WindowState.SWEEPING),
    ),
    WindowState.READY: (
        Rule(Event.ALL_ANSWERED, Wait.NONE, Action.CLOSE, WindowState.CLOSED),  # every host is absent
        Rule(Event.SOME_SILENT, Wait.NONE, Action.BEGIN_PASS, WindowState.PROBING),
    ),
    WindowState.PROBING: (Rule(Event.ALL_SENT, Wait.NONE, Action.AWAIT, WindowState.PROBED),),
    WindowState.PROBED: (
        Rule(Event.ALL_ANSWERED, Wait.NONE, Action.CHECK, WindowState.CHECKING),
        # A stopped scan waits for replies under way: silence is not claimed before that.
        Rule(Event.STOPPED, Wait.REPLIES, Action.CLOSE_EARLY, WindowState.CLOSED),
        # Hosts that have answered go on at their pace. The others may be far away, or absent.
        Rule(Event.FIRST_ANSWERED, Wait.SPLIT, Action.SPLIT, WindowState.PROBED),
        Rule(Event.ENOUGH, Wait.SILENCE, Action.CHECK, WindowState.CHECKING),
        Rule(Event.NOT_ENOUGH, Wait.NEXT_PASS, Action.BEGIN_PASS, WindowState.PROBING),
    ),
    # Where there is nothing to test, a window passes through these two states at once.
    WindowState.CHECKING: (Rule(Event.ALL_SENT, Wait.NONE, Action.NONE, WindowState.CHECKED),),
    WindowState.CHECKED: (
        Rule(Event.ALL_ANSWERED, Wait.NONE, Action.CLOSE, WindowState.CLOSED),
        Rule(Event.ENOUGH, Wait.REPLIES, Action.CLOSE, WindowState.CLOSED),
        # What the user stops here is only the test: every target had its passes.
        Rule(Event.STOPPED, Wait.REPLIES, Action.CLOSE, WindowState.CLOSED),
        Rule(Event.NOT_ENOUGH, Wait.REPLIES, Action.BEGIN_PASS, WindowState.CHECKING),
    ),
    WindowState.CLOSED: (),
}

SWEEP_STATES = (WindowState.SWEEPING, WindowState.SWEPT)
CHECK_STATES = (WindowState.CHECKING, WindowState.CHECKED)


def due_rule(
    state: WindowState, elapsed: float, holds: Callable[[Event], bool], seconds: Callable[[Wait], float]
) -> Rule | None:
    """The first rule that applies, `elapsed` seconds after the latest frame left; None: nothing is due."""
    for rule in TABLE[state]:
        # The wait is compared first, because an event may need the whole loss estimate.
        if elapsed >= seconds(rule.wait) and holds(rule.event):
            return rule
    return None


def next_wait(state: WindowState, elapsed: float, seconds: Callable[[Wait], float]) -> float | None:
    """Seconds until the next wait of this state is over; None: only a frame or a reply can change the state."""
    left = [seconds(rule.wait) - elapsed for rule in TABLE[state]]
    return min((wait for wait in left if wait > 0), default=None)
