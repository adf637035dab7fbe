"""Round trips: each host's own as TCP smooths them (RFC 6298), and how long silence must last."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scanner.packet.addresses import from_text
from scanner.rounds.trips import LEAST_WAIT, HostTrips, Patience, RoundTrips

SECONDS = st.floats(0.0001, 4.0)


def rfc_6298(samples: list[float]) -> tuple[float, float]:
    """The smoothed round trip and the wait after these samples, one after the other (RFC 6298 2.2 and 2.3)."""
    smoothed, deviation = samples[0], samples[0] / 2
    for sample in samples[1:]:
        deviation = 3 / 4 * deviation + 1 / 4 * abs(smoothed - sample)
        smoothed = 7 / 8 * smoothed + 1 / 8 * sample
    return smoothed, max(LEAST_WAIT, smoothed + 4 * deviation)


def learnt(trips: HostTrips, host: int, *samples: float) -> HostTrips:
    trips.add(np.full(len(samples), host), np.array(samples))
    return trips


@given(st.lists(st.lists(SECONDS, max_size=20), min_size=1, max_size=5))
@settings(max_examples=100, deadline=None)
def test_each_host_is_smoothed_as_tcp_does(samples: list[list[float]]) -> None:
    """A sample of every host comes in one batch, then the next one of every host that has more."""
    trips = HostTrips(len(samples))
    for turn in range(20):
        hosts = [host for host, own in enumerate(samples) if turn < len(own)]
        if hosts:
            trips.add(np.array(hosts), np.array([samples[host][turn] for host in hosts]))
    wanted = [rfc_6298(own) if own else (0.0, LEAST_WAIT) for own in samples]
    everyone = np.arange(len(samples))
    found = list(zip(trips.usual(everyone).tolist(), trips.waits().tolist(), strict=True))
    assert found == [pytest.approx(each, rel=1e-3) for each in wanted]


@pytest.mark.parametrize("trip", [0.001, 0.04, 0.3, 1.5])
def test_a_batch_of_equal_round_trips_is_the_same_as_one_after_the_other(trip: float) -> None:
    together, apart = learnt(HostTrips(2), 1, *[trip] * 8), HostTrips(2)
    for _ in range(8):
        learnt(apart, 1, trip)
    assert together.waits().tolist() == pytest.approx(apart.waits().tolist())


def test_round_trips_of_one_batch_that_differ_widen_the_wait() -> None:
    waits = [learnt(HostTrips(1), 0, *batch).waits()[0] for batch in ([0.3] * 4, [0.1, 0.2, 0.4, 0.5])]
    assert waits[1] > waits[0] > 0.3


# ── patience ──

NEAR, FAR = "198.18.1.7", "198.18.2.7"
SLOW, QUICK = 1.5, 0.05

# (--timeout, the one round trip of 198.18.1.1) → seconds for a silent host in its /24, and in another one.
UNHEARD = {
    "nobody has answered": (None, None, (1.0, 1.0)),
    "answers come soon": (None, QUICK, (1.0, 1.0)),
    "answers take 0.4 s: 0.4 s and four times the half of it": (None, 0.4, (1.2, 1.0)),
    "answers take 1.5 s: not more than three": (None, SLOW, (3.0, 1.0)),
    "a given time counts alone": (0.3, SLOW, (0.3, 0.3)),
}


@pytest.mark.parametrize("name", UNHEARD)
def test_a_host_that_has_never_answered_gets_the_patience_that_its_network_needs(name: str) -> None:
    timeout, trip, wanted = UNHEARD[name]
    patience, hosts = Patience(timeout), from_text("198.18.1.1")
    if trip is not None:
        patience.learn(hosts, learnt(HostTrips(1), 0, trip), np.array([0]))
    found = [patience.unheard(from_text(text)) for text in (NEAR, FAR)]
    assert found == [pytest.approx(each) for each in wanted]


def test_of_several_networks_the_slowest_counts() -> None:
    patience = Patience()
    patience.learn(from_text("198.18.1.1"), learnt(HostTrips(1), 0, 0.5), np.array([0]))
    assert patience.unheard(from_text(FAR, NEAR)) == pytest.approx(1.5)


# (--timeout, round trips of the hosts) → seconds for silent ports of hosts that have answered.
HEARD = {
    "near": (None, [0.01], 0.2),
    "one host is far": (None, [0.01, 0.3], 0.9),
    "very far": (None, [9.0], 10.0),
    "near, with a time given": (0.5, [0.01], 0.2),
    "far, with a time given": (0.5, [0.3], 0.5),
    "nobody": (None, [], 0.0),
}


@pytest.mark.parametrize("name", HEARD)
def test_hosts_that_have_answered_are_waited_for_by_their_own_round_trips(name: str) -> None:
    timeout, samples, seconds = HEARD[name]
    trips = HostTrips(len(samples))
    trips.add(np.arange(len(samples)), np.array(samples))
    assert Patience(timeout).heard(trips.waits()) == pytest.approx(seconds)


# ── all hosts together ──


# (seconds over the usual 0.04 s, seconds that the host takes at most) → whether the host has sent it again
RESENT = {
    (0.5, 0.0): False,
    (1.0, 0.0): True,
    (2.0, 0.0): False,
    (3.1, 0.0): True,
    (7.2, 0.0): True,
    (15.3, 0.0): True,
    (31.0, 0.0): True,
    (2.0, 0.1): True,
    (2.0, 1.5): False,
    (9.0, 0.1): True,
}


@pytest.mark.parametrize(("excess", "longest"), RESENT)
def test_a_syn_ack_that_was_sent_again_is_known_by_its_time(excess: float, longest: float) -> None:
    trips = RoundTrips()
    trips.add(np.full(30, 40_000_000))
    resent = trips.resent(np.array([int((0.04 + excess) * 1e9)]), np.array([longest], np.float32))
    assert resent.tolist() == [RESENT[excess, longest]]


def test_of_few_round_trips_nothing_is_said() -> None:
    trips = RoundTrips()
    trips.add(np.full(10, 40_000_000))
    assert (
        trips.quantile(0.5) is not None,
        trips.resent(np.array([1_040_000_000]), np.zeros(1, np.float32)).tolist(),
    ) == (True, [False])
