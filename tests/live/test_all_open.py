"""`--verify` finds a host whose firewall redirects every port to an open one, and accepts a normal host."""

import pytest

from scanner.lab.firewall import load
from tests.lab.live import LIVE
from tests.lab.networks import direct_box
from tests.live.syn_wire import scan

pytestmark = LIVE
REDIRECT = """
table ip redirected {
  chain in {
    type nat hook prerouting priority -100;
    tcp dport 1-65535 redirect to :80
  }
}
"""


@pytest.mark.parametrize("redirected", [True, False])
def test_verify_probes_ports_outside_the_request(redirected: bool) -> None:
    with direct_box() as box:
        box.listen([22, 80])
        if redirected and load(box.target, REDIRECT):
            pytest.skip("this kernel has no redirection")
        done = scan(box, box.target_ip, "-p", "22,80", "--verify")
        words = {word for row in done.rows for word in row["evidence"]}
        assert words == ({"all-open", "handshake-completed"} if redirected else {"handshake-completed"})
