"""The table of error numbers, and a block's bookkeeping, without a socket."""

import errno

import numpy as np
import pytest

from scanner.config import SynConfig
from scanner.connect.calls import Outcome
from scanner.connect.outcomes import OUTCOMES, RETRY
from scanner.connect.probing import Probing
from scanner.connect.scan import connect_session
from scanner.connect.verify import CONTROL_PORTS, HIGH, control_ports
from scanner.errors import UsageError
from scanner.packet.addresses import from_text
from scanner.rounds.measure import assess
from scanner.rounds.rows import silent_targets, window_rows
from scanner.rounds.schedule import HostRange
from scanner.rounds.window import Window
from scanner.targets.names import resolve
from scanner.targets.ports import parse_ports
from scanner.targets.spaces import Spaces
from scanner.targets.spec import parse_hosts
from scanner.verdict.loss import estimate
from scanner.verdict.rows import Verdict
from scanner.verdict.table import Reason, state_of

MS = 1_000_000
START = 1_700_000_000_000_000_000  # ns since 1970 at monotonic 0

# What each result of connect() says about a target.
TABLE = """
connected open syn-ack
ECONNREFUSED closed conn-refused
EACCES filtered admin-prohibited
EPERM filtered admin-prohibited
ENOPROTOOPT filtered proto-unreach
EHOSTUNREACH filtered host-unreach
ENETUNREACH filtered net-unreach
ENONET filtered dest-unreach
ETIMEDOUT filtered no-response
EHOSTDOWN filtered no-response
EMFILE again
ENFILE again
EADDRNOTAVAIL again
ENOBUFS again
ECONNRESET open syn-ack
"""


def test_the_table_of_error_numbers() -> None:
    def words(reason: Reason) -> str:
        return "again" if reason is RETRY else f"{state_of(reason).value} {reason.word}"

    ours = {f"{errno.errorcode.get(code, 'connected')} {words(reason)}" for code, reason in OUTCOMES.items()}
    assert ours == set(TABLE.strip().splitlines())


def probing_of(*hosts: str, ports: str = "20-24") -> Probing:
    window = Window(HostRange(0, 0, len(hosts)), from_text(*hosts), parse_ports(ports), 1, own_trips=True)
    window.begin_pass(0)
    return Probing(window)


def end(probing: Probing, *outcomes: tuple[int, int, int]) -> None:
    """Every call that is due is made; (id, error number, ms) say how some of them end, the others are silent.

    ~id: a control call to that target.
    """
    said = {call_id: (code, trip) for call_id, code, trip in outcomes}
    window, ended = probing.window, []
    probes = window.passes.take(1000, 1).tolist()
    window.allow_control(100)
    for call_id in [*probes, *(~window.control.take(1000, 1)).tolist()]:
        code, trip = said.get(call_id, (errno.ETIMEDOUT, 950))
        ended.append(Outcome(probing, call_id, code, START + 10 * MS, START + (10 + trip) * MS, None))
    probing.fold(ended)


def test_rows() -> None:
    made = probing_of("198.18.0.2", "2001:db8::2")
    end(made, (0, 0, 1), (1, errno.ECONNREFUSED, 2), (2, errno.EHOSTUNREACH, 3), (3, errno.ECONNRESET, 4), (6, 0, 5))
    made.window.begin_pass(0)
    end(made, (~0, errno.ECONNREFUSED, 1), (9, errno.EACCES, 7))
    at = {trip: round((START + (10 + trip) * MS) / 1e9, 6) for trip in range(10)}
    done, refused = ("handshake-completed",), ("handshake-refused",)
    conflict = ("conflict:conn-refused",)
    no = ("filtered", "no-response")
    assert list(window_rows(made.window, 0)) == [
        Verdict("198.18.0.2", 20, "open", "syn-ack", "tcp", None, "ftp-data", done + conflict, 1.0, at[1], 1),
        Verdict("198.18.0.2", 21, "closed", "conn-refused", "tcp", None, "ftp", (), 2.0, at[2], 1),
        Verdict("198.18.0.2", 22, "filtered", "host-unreach", "tcp", None, "ssh", (), 3.0, at[3], 1),
        Verdict("198.18.0.2", 23, "open", "syn-ack", "tcp", None, "telnet", refused, 4.0, at[4], 1),
        Verdict("2001:db8::2", 21, "open", "syn-ack", "tcp", None, "ftp", done, 5.0, at[5], 1),
        Verdict("2001:db8::2", 24, "filtered", "admin-prohibited", "tcp", None, None, (), 7.0, at[7], 2),
        Verdict("198.18.0.2", 24, *no),
        Verdict("2001:db8::2", 20, *no, service="ftp-data"),
        Verdict("2001:db8::2", 22, *no, service="ssh"),
        Verdict("2001:db8::2", 23, *no, service="telnet"),
    ]  # fmt: skip


def test_rows_without_silent_targets_and_of_open_ports_only() -> None:
    made = probing_of("198.18.0.2")
    end(made, (0, 0, 1), (1, errno.ECONNREFUSED, 2))
    given = {
        options: [(row.port, row.state) for row in window_rows(made.window, 0, *options)]
        for options in ((True, False), (False, False), (False, True))
    }
    answered = [(20, "open"), (21, "closed")]
    assert given == {
        (True, False): [*answered, *((port, "filtered") for port in (22, 23, 24))],
        (False, False): answered,
        (False, True): answered[:1],
    }


WAITS = {
    "the first calls to a host that has not answered: the kernel must not send a third SYN": (1, 5, None, 1.95),
    "the same, with --timeout": (1, 5, 0.5, 1.0),
    "other calls to that host: the kernel must not send a second SYN": (1, 8, None, 0.95),
    "the same, with --timeout 0.5": (1, 8, 0.5, 0.5),
    "the first ones again, in the second pass": (2, 5, None, 0.95),
    "the same, in the second pass, with --timeout": (2, 5, 0.5, 0.5),
    "a host that answers soon": (1, 4, None, 0.2),
    "a host that is 300 ms away: 0.3 s and four times the half of it": (1, 10, None, 0.9),
    "that host, with --timeout": (1, 10, 0.5, 0.5),
    "a control call to that host": (2, ~10, None, 0.9),
}


@pytest.mark.parametrize("name", WAITS)
def test_how_long_a_call_may_stay_silent(name: str) -> None:
    passes, call_id, timeout, seconds = WAITS[name]
    made = probing_of("198.18.0.2", "198.18.0.3", "198.18.0.4")
    for target_id in range(5, 10):
        made.choose_scout(target_id)
    end(made, (0, 0, 40), (10, errno.ECONNREFUSED, 300), (5, errno.ENETUNREACH, 1))
    for _ in range(passes - 1):
        made.window.begin_pass(0)
    assert made.wait(call_id, timeout) == pytest.approx(seconds, abs=1e-3)


def test_control_calls_measure_loss() -> None:
    """100 of 200 answer in the first pass, and 30 of 100 control calls in the second pass do not."""
    made = probing_of("198.18.0.2", ports="1-200")
    end(made, *((target_id, 0, 1) for target_id in range(100)))
    assess(made.window)
    assert made.window.estimate.loss is None
    made.window.begin_pass(0)
    end(made, *((~target_id, 0, 1) for target_id in range(70)))
    assess(made.window)
    assert made.window.estimate.loss == pytest.approx(estimate([100, 0], 100, 30).loss, abs=0.1)
    assert made.window.control.all_left


def test_what_was_not_started_is_not_called_silent() -> None:
    made = probing_of("198.18.0.2")
    window = made.window
    made.waiting = window.passes.take(1000, 1).tolist()
    over = [made.waiting.pop()]
    window.passes.stop()
    made.drop_waiting()
    made.fold([Outcome(made, target_id, errno.ETIMEDOUT, 1, 2, None) for target_id in over])
    assert (window.passes.all_left, silent_targets(window, 0).tolist()) == (True, over)
    assert window.passes.complete == 0  # or a scan of one pass would be called complete, and not go on when resumed


def test_a_source_port_is_refused() -> None:
    hosts = parse_hosts(["198.18.0.2"], [], resolve)
    with pytest.raises(UsageError) as caught:
        connect_session(Spaces(hosts, [parse_ports("1")]), SynConfig(source_port=4000))
    assert str(caught.value) == "--source-port: connect() gives every connection a port of its own; leave it out"


@pytest.mark.parametrize(
    ("probed", "expected"), [("1-1024", CONTROL_PORTS), ("1-65530", CONTROL_PORTS), ("1-65533", 2), ("1-65535", 0)]
)
def test_control_ports(probed: str, expected: int) -> None:
    ports = parse_ports(probed)
    chosen = control_ports(ports, 9)
    allowed = set(range(HIGH[0], HIGH[1] + 1)) - set(ports.tolist())
    assert (len(chosen), set(chosen) - allowed) == (expected, set())
    assert len(np.unique(chosen)) == expected


@pytest.mark.parametrize("target", ["0.0.0.0", "::"])
def test_an_unspecified_address_is_no_host(target: str) -> None:
    """The kernel would connect to this machine, also where its addresses are excluded."""
    hosts = parse_hosts([target], [], lambda name: [])
    with pytest.raises(UsageError, match="is no host"):
        connect_session(Spaces(hosts, [np.array([5555], np.uint16)]), SynConfig())
