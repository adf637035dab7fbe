"""The life of a window: the table itself, and each rule of it seen from outside through a scan with a fake clock."""

from typing import Any

import pytest

from scanner.config import SynConfig
from scanner.connect.scan import connect_session
from scanner.halfopen.scan import Settings
from scanner.halfopen.session import settings_of
from scanner.rounds.lifecycle import TABLE, Event, Wait, WindowState, due_rule, next_wait
from scanner.rounds.schedule import OPEN_WINDOWS, RESUME_SECONDS, Schedule
from scanner.targets.order import Extent
from scanner.targets.ports import parse_ports
from scanner.targets.spaces import Spaces
from scanner.targets.spec import parse_hosts
from scanner.verdict.loss import Bound, Estimate
from tests.builders import OUR_MAC, SECOND
from tests.memory import Faults
from tests.simulation import NET, NET_PORTS, answers_all, bench, bench_of, lane_of, link, target

# ── the table ──


def test_every_state_but_the_last_leads_on_and_every_state_is_reached() -> None:
    reached = {WindowState.SWEEPING, WindowState.PROBING} | {rule.next for rules in TABLE.values() for rule in rules}
    assert (set(TABLE), reached) == (set(WindowState), set(WindowState))
    assert [state for state, rules in TABLE.items() if not rules] == [WindowState.CLOSED]


def seconds(wait: Wait) -> float:
    return {Wait.NONE: 0.0, Wait.SPLIT: 0.02, Wait.REPLIES: 0.1, Wait.NEXT_PASS: 0.6, Wait.SILENCE: 0.3}[wait]


STEPS: dict[str, tuple[WindowState, float, set[Event], WindowState | None]] = {
    "frames are in the ring": (WindowState.PROBING, 9.0, set(), None),
    "a pass has left": (WindowState.PROBING, 0.0, {Event.ALL_SENT}, WindowState.PROBED),
    "everyone answered: no wait": (WindowState.PROBED, 0.0, {Event.ALL_ANSWERED}, WindowState.CHECKING),
    "enough, and silence may be called": (WindowState.PROBED, 0.3, {Event.ENOUGH}, WindowState.CHECKING),
    "enough, and a silent host needs more time": (WindowState.PROBED, 0.2, {Event.ENOUGH}, None),
    "only some hosts have answered": (WindowState.PROBED, 0.02, {Event.FIRST_ANSWERED}, WindowState.PROBED),
    "the others get their time first": (WindowState.PROBED, 0.01, {Event.FIRST_ANSWERED}, None),
    "nothing to test, or all tests answered": (WindowState.CHECKED, 0.0, {Event.ALL_ANSWERED}, WindowState.CLOSED),
    "a test without an answer is repeated": (WindowState.CHECKED, 0.1, {Event.NOT_ENOUGH}, WindowState.CHECKING),
    "tests are not repeated for ever": (WindowState.CHECKED, 0.1, {Event.ENOUGH}, WindowState.CLOSED),
    "stopped among the tests": (WindowState.CHECKED, 0.1, {Event.STOPPED, Event.NOT_ENOUGH}, WindowState.CLOSED),
    "not enough: the pause between passes is waited for": (WindowState.PROBED, 0.5, {Event.NOT_ENOUGH}, None),
    "not enough": (WindowState.PROBED, 0.6, {Event.NOT_ENOUGH}, WindowState.PROBING),
    "stopped: replies under way are waited for": (WindowState.PROBED, 0.09, {Event.STOPPED, Event.NOT_ENOUGH}, None),
    "stopped": (WindowState.PROBED, 0.1, {Event.STOPPED, Event.NOT_ENOUGH}, WindowState.CLOSED),
    "stopped among the queries": (WindowState.SWEPT, 0.0, {Event.STOPPED, Event.FIRST_ANSWERED}, WindowState.CLOSED),
    "some hosts answered at once": (WindowState.SWEPT, 0.02, {Event.FIRST_ANSWERED}, WindowState.READY),
    "late hosts get their time": (WindowState.SWEPT, 0.2, {Event.ENOUGH}, None),
    "no further query": (WindowState.SWEPT, 0.3, {Event.ENOUGH}, WindowState.READY),
    "nobody is there": (WindowState.READY, 0.0, {Event.ALL_ANSWERED}, WindowState.CLOSED),
}


@pytest.mark.parametrize("name", STEPS)
def test_steps(name: str) -> None:
    state, elapsed, events, wanted = STEPS[name]
    rule = due_rule(state, elapsed, events.__contains__, seconds)
    assert (rule and rule.next) == wanted


def test_the_next_wait_is_the_shortest_that_is_not_over() -> None:
    waits = [next_wait(WindowState.SWEPT, elapsed, seconds) for elapsed in (0.0, 0.02, 0.3, 0.6)]
    assert waits == [0.02, pytest.approx(0.28), pytest.approx(0.3), None]


# ── the rules, through a scan ──


def test_a_host_that_answers_late_gets_its_time_before_it_is_called_down() -> None:
    """All others answer at once; this one takes longer than three rounds of queries, and less than the last wait."""
    everyone = list(answers_all(4))
    wire, clock = link(4, everyone)
    answer = wire.ask

    def ask(frame: Any) -> None:
        answer(frame)
        if wire.queries[-1] == everyone[0]:
            when, reply = wire.answers.pop()
            wire.answers.append((when + int(0.24 * SECOND), reply))

    wire.ask = ask  # type: ignore[method-assign]
    done = bench_of(clock, [lane_of(wire, NET[4], NET_PORTS, mac=OUR_MAC)]).run()
    assert {ip for ip, port in done.table() if port is None} == set()


def test_hosts_that_answered_are_probed_while_others_are_still_queried() -> None:
    everyone = list(answers_all(4))
    wire, clock = link(4, everyone[:8])
    start = clock.now
    running = bench_of(clock, [lane_of(wire, NET[4], NET_PORTS, mac=OUR_MAC)])
    running.run(lambda now: bool(wire.probes_seen))
    assert (clock.now - start) / SECOND <= 0.025


@pytest.mark.parametrize(("silent", "least"), [((82,), 2.0), ((22, 82), 0.4)])
def test_silence_is_judged_by_what_the_probes_of_the_host_showed(silent: tuple[int, ...], least: float) -> None:
    """Hosts that answer probes are waited for 0.2 s in each of two passes; the first probe of others is 2 s old."""
    wire, clock = link(4, list(answers_all(4)))
    start = clock.now
    bench_of(clock, [lane_of(wire, NET[4], silent, mac=OUR_MAC)], Settings(bound=Bound(2))).run()
    assert least <= (clock.now - start) / SECOND < least + 0.1


def test_the_scan_wakes_up_for_good_batches_only() -> None:
    """At 10,000/s the bucket holds 100 frames, and a wake-up sends most of them."""
    sent: list[int] = []
    done = bench({}, targets="198.18.4.0/22", ports=(80,), settings=Settings(rate=10_000.0, bound=Bound(1)))
    while not done.scan.done:
        before = len(done.transports[0].probes_seen)
        done.step()
        sent.append(len(done.transports[0].probes_seen) - before)
    batches = [count for count in sent if count][1:-1]
    assert min(batches) >= 70


# ── the bound ──


@pytest.mark.parametrize("share", [0.01, 0.5])
def test_a_share_of_the_responders_bounds_both_kinds_of_scan(share: float) -> None:
    """`--max-missed 1%`: the number itself is 1.0 then, and must not count."""
    config = SynConfig(max_missed=1.0, max_missed_share=share)
    hosts, ports = parse_hosts(["198.18.0.2"], [], lambda name: []), parse_ports("1-10")
    session = connect_session(Spaces(hosts, [ports]), config)
    bounds = [session.engine.windows.bound, settings_of(config, hosts).bound]
    session.close()
    # 20 responders, and 0.9 of a responder missed: more than 1 % of them, less than half.
    assert [bound.reached(2, Estimate(0.9, 0.1), 20) for bound in bounds] == [share == 0.5] * 2


def probes_to(done: Any) -> int:
    return len({target(frame) for frame in done.transports[0].probes_seen})


def test_a_share_of_the_responders_needs_more_passes_than_a_whole_responder() -> None:
    """20 % loss each way, 60 responders: half a responder missed ends the scan with a bound of 1.0, not with 1 %."""
    hosts = answers_all(4, ports=dict.fromkeys(range(1, 5), "open"), other="drop")
    faults = Faults(lose_probes=0.2, lose_replies=0.2)

    def probes(bound: Bound) -> int:
        return probes_to(bench(hosts, faults=faults, ports=range(1, 9), settings=Settings(bound=bound)).run())

    assert probes(Bound(11, 1.0, 0.0001)) > probes(Bound(11, 1.0))


# ── the size of a window ──


@pytest.mark.parametrize("width", [1, 1000, 65_535])
@pytest.mark.parametrize("rate", [1.0, 10.0, 100.0, 5000.0])
def test_open_windows_hold_at_most_ten_minutes_of_sending(rate: float, width: int) -> None:
    """Unless one host alone takes longer: then a window has that host only."""
    host_range = Schedule([Extent(100_000, width)]).next(rate)
    assert host_range is not None
    passes = 3  # over targets that stay silent
    again = OPEN_WINDOWS * passes * host_range.size * width / rate
    assert host_range.size == 1 or again <= RESUME_SECONDS
