"""Control probes: how many may leave, to whom, when again, and which replies answer them."""

import numpy as np
import pytest

from scanner.halfopen.scan import Settings
from scanner.rounds.control import REPEAT_NS, ControlProbes, quota
from scanner.verdict.loss import Bound
from tests.builders import OUR_PORT, SECOND
from tests.memory import Faults, Host
from tests.simulation import Bench, bench, target


@pytest.mark.parametrize(
    ("probes", "most", "wanted"),
    [
        (0, None, 0),
        (9, None, 0),
        (10, None, 1),
        (500, None, 50),
        (1000, None, 70),
        (10_000, None, 430),
        (9999, 100, 100),
    ],
)
def test_a_tenth_of_the_first_probes_and_fewer_of_the_others(probes: int, most: int | None, wanted: int) -> None:
    assert quota(probes, most) == wanted


def begun(*answered: int, most: int = 100) -> ControlProbes:
    control = ControlProbes()
    control.begin(np.array(answered, np.int64), most)
    return control


def asked(control: ControlProbes, limit: int = 1000, now: int = 1) -> list[int]:
    return control.take(limit, now).tolist()


def test_nothing_leaves_before_it_is_allowed() -> None:
    control = begun(*range(10))
    found = []
    for allowed in (0, 3, 3, 5):
        control.allow(allowed)
        found.append((control.handed_out, asked(control)))
    assert found == [(True, []), (False, [0, 1, 2]), (True, []), (False, [3, 4])]


def test_a_limit_keeps_the_rest_for_the_next_time() -> None:
    control = begun(*range(5))
    control.allow(5)
    assert [asked(control, 2), asked(control, 2), asked(control, 2)] == [[0, 1], [2, 3], [4]]


def test_of_many_targets_some_are_chosen_evenly() -> None:
    control = begun(*range(1000), most=10)
    control.allow(1000)
    assert asked(control) == list(range(0, 1000, 100))


def test_what_answers_during_the_pass_is_offered() -> None:
    control = begun()
    control.allow(5)
    control.offer(np.array([7, 3]))
    assert (asked(control), control.handed_out) == ([7, 3], True)


@pytest.mark.parametrize(("later", "wanted"), [(REPEAT_NS, []), (REPEAT_NS + 1, [4])])
def test_a_target_gets_another_one_in_the_pass_only_after_a_second(later: int, wanted: list[int]) -> None:
    control = begun(4)
    control.allow(2)
    first = asked(control, now=1)
    control.offer(np.array([4]))
    assert (first, asked(control, now=1 + later)) == ([4], wanted)


def test_in_the_next_pass_at_once() -> None:
    control = begun(4)
    control.allow(1)
    assert asked(control) == [4]
    control.begin(np.array([4]), 100)
    control.allow(1)
    assert (asked(control), control.pass_no) == ([4], 2)


def test_a_pass_that_is_over_hands_out_nothing() -> None:
    control = begun(1, 2)
    control.allow(9)
    control.stop()
    control.offer(np.array([3]))
    assert (control.handed_out, asked(control)) == (True, [])


def test_a_suspect_is_asked_at_once_even_then() -> None:
    control = begun(1, 2)
    control.stop()
    control.insist(np.array([8]))
    assert (control.handed_out, asked(control), control.handed_out) == (False, [8], True)


def test_handed_out_and_left_are_two_things() -> None:
    control = begun(1, 2)
    control.allow(2)
    taken = control.take(2, 5)
    states = [control.all_left]
    for part in (taken[:1], taken[1:]):
        control.left(part, 6)
        states.append(control.all_left)
    assert states == [False, False, True]


def test_a_reply_is_credited_once_and_by_the_port_of_the_next_pass() -> None:
    """The control probe of pass 1 left at 50 from the port of pass 2."""
    control = begun(5, 6)
    control.allow(2)
    asked(control, now=50)
    target_id, answers = np.array([5, 5, 5, 6, 9]), np.array([1, 2, 2, 3, 2], np.uint8)
    assert control.was_sent(target_id, answers).tolist() == [False, True, True, False, False]
    found_twice = [control.credit(target_id, answers).tolist() for _ in range(2)]
    assert found_twice == [[0, 50, 0, 0, 0], [0] * 5]
    found = control.outcomes()
    columns = [column.tolist() for column in found]
    assert columns == [[5, 6], [1, 1], [50, 50], [True, False]]


# ── in a scan ──


HOST = "198.18.1.1"


def scan_of(passes: int, faults: Faults, **settings: object) -> Bench:
    """100 ports of a host, of which every second answers."""
    host = Host(dict.fromkeys(range(1000, 1100, 2), "open"), "drop")
    return bench({HOST: host}, targets=HOST, ports=range(1000, 1100), faults=faults,
                 settings=Settings(bound=Bound(passes, 0.0), **settings), passes=passes)  # type: ignore[arg-type]  # fmt: skip


def test_control_probes_leave_from_the_port_of_the_next_pass_in_every_pass() -> None:
    """A stack that saw the target's own flow before would take the control probe for a repeat."""
    running = scan_of(3, Faults(), rate=1000.0).run()
    flows = [target(frame)[1:3] for frame in running.transports[0].probes_seen]
    control = {(1000 + int(each), number + OUR_PORT) for each, number in zip(
        *[column.tolist() for column in running.windows[0].control.outcomes()[:2]], strict=True)}  # fmt: skip
    silent = {(port, OUR_PORT + number) for port in range(1001, 1100, 2) for number in range(3)}
    assert len(set(flows)) == len(flows)
    assert set(flows) == {(port, OUR_PORT) for port in range(1000, 1100)} | silent | control
    assert {port - OUR_PORT for _, port in control} == {1, 2, 3}
    assert running.scan.transmit.sent["control"] == len(control)


@pytest.mark.parametrize("lost", [0.0, 0.3])
def test_their_share_that_comes_back_is_what_the_path_carries(lost: float) -> None:
    outcomes = scan_of(11, Faults(lose_probes=lost)).run().windows[0].control.outcomes()
    assert float(outcomes.back.mean()) == pytest.approx(1 - lost, abs=0.06)


def test_the_times_of_replies_are_those_of_the_control_probes() -> None:
    running = scan_of(2, Faults(), rate=1000.0)
    start = running.clock.now
    outcomes = running.run().windows[0].control.outcomes()
    seconds = (outcomes.sent_at - start) / SECOND
    assert bool(np.all(np.diff(seconds) >= 0) and seconds[0] < 0.1 < seconds[-1])


def test_with_one_source_port_the_first_pass_has_none() -> None:
    host = Host(dict.fromkeys(range(1000, 1050), "open"), "drop")
    running = bench({HOST: host}, targets=HOST, ports=range(1000, 1100), source_port=OUR_PORT,
                    settings=Settings(bound=Bound(2), pause=0.6)).run()  # fmt: skip
    passes = running.windows[0].control.outcomes().pass_no.tolist()
    assert (len(passes) > 0, set(passes)) == (True, {2})
