"""Limits of the process: a scan that does not fit says in one line which limit it is, and sends nothing."""

from collections.abc import Iterator

import pytest

from scanner.lab import Box
from tests.lab.live import LIVE
from tests.lab.networks import direct_box
from tests.live.syn_wire import Tap, scan

pytestmark = LIVE


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    with direct_box() as made:
        yield made


def limited(limit: str) -> list[str]:
    """A shell that sets a limit and becomes the program."""
    return ["sh", "-c", f'{limit}; exec "$@"', "sh"]


@pytest.mark.parametrize("files", [10, 16, 25, 28])
def test_too_few_descriptors(box: Box, files: int) -> None:
    with Tap(box) as tap:
        done = scan(box, box.target_ip, "-p", "1-9", under=limited(f"ulimit -n {files}"))
        assert tap.probes() == 0
    assert (done.code, done.rows, len(done.errors)) == (1, [], 1)
    assert f"this process may have {files} at once; raise the limit (ulimit -n 1024)" in done.errors[0]


def test_a_soft_limit_is_raised(box: Box) -> None:
    done = scan(box, box.target_ip, "-p", "1-9", under=limited("ulimit -Sn 16"))
    assert (done.code, len(done.rows)) == (0, 9)


def test_rings_are_no_locked_memory(box: Box) -> None:
    """Without CAP_IPC_LOCK, which would lift the limit."""
    bare = ["setpriv", "--bounding-set=-all,+net_raw", "--inh-caps=-all,+net_raw"]
    done = scan(box, box.target_ip, "-p", "1-9", under=[*bare, *limited("ulimit -l 64")])
    assert (done.code, len(done.rows)) == (0, 9)
