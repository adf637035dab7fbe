"""A host that is open on every port, by its firewall's redirection, and an honest one beside it."""

import pytest

from scanner.lab.firewall import load
from tests.lab.live import LIVE
from tests.lab.networks import direct_box
from tests.live.syn_wire import scan

pytestmark = LIVE
REDIRECT = (
    "table ip wall {\n chain in {\n type nat hook prerouting priority -100;\n tcp dport 1-65535 redirect to :80\n }\n}"
)


@pytest.mark.parametrize("wall", [True, False])
def test_verify_asks_ports_that_nobody_chose(wall: bool) -> None:
    with direct_box() as box:
        box.listen([22, 80])
        if wall and load(box.target, REDIRECT):
            pytest.skip("this kernel has no redirection")
        done = scan(box, box.target_ip, "-p", "22,80", "--verify")
        words = {word for row in done.rows for word in row["evidence"]}
        assert words == ({"all-open", "handshake-completed"} if wall else {"handshake-completed"})
