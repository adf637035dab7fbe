"""`--verify` finds a host whose firewall redirects every port to an open one, and accepts a normal host."""

from ipaddress import ip_address
from pathlib import Path

import pytest

from scanner.connect.verify import CONTROL_PORTS
from scanner.lab.firewall import load
from tests.lab.live import LIVE
from tests.lab.networks import direct_box
from tests.live.syn_wire import SYN, Tap, scan

pytestmark = LIVE
REDIRECT = """
table ip redirected {
  chain in {
    type nat hook prerouting priority -100;
    tcp dport 1-65535 redirect to :80
  }
}
"""


def test_verify_with_ports_of_their_own(tmp_path: Path) -> None:
    """Each host has handshakes on its own ports. 198.18.0.3 is open on all of its ports, which is one, and tested."""
    (tmp_path / "list").write_text("198.18.0.2:22,23\n198.18.0.3:80\n[2001:db8::2]:80,81\n")
    own = {("198.18.0.2", 22), ("198.18.0.2", 23), ("198.18.0.3", 80), ("2001:db8::2", 80), ("2001:db8::2", 81)}
    with direct_box(hosts=2) as box, Tap(box) as tap:
        box.listen([22, 80])
        done = scan(box, "-iL", str(tmp_path / "list"), "--verify")
        sent = [each for each in tap.segments() if not each.out and each.flags & SYN]
    evidence = {(row["ip"], row["port"]): row["evidence"] for row in done.rows}
    completed = {target for target, words in evidence.items() if "handshake-completed" in words}
    assert (set(evidence), completed) == (own, {(ip, port) for ip, port in own if port in (22, 80)})
    asked = {(str(ip_address(each.dst)), each.dport) for each in sent}
    assert (own <= asked, [ip for ip, _ in asked - own]) == (True, ["198.18.0.3"] * CONTROL_PORTS)


@pytest.mark.parametrize("redirected", [True, False])
def test_verify_probes_ports_outside_the_request(redirected: bool) -> None:
    with direct_box() as box:
        box.listen([22, 80])
        if redirected and load(box.target, REDIRECT):
            pytest.skip("this kernel has no redirection")
        done = scan(box, box.target_ip, "-p", "22,80", "--verify")
        words = {word for row in done.rows for word in row["evidence"]}
        assert words == ({"all-open", "handshake-completed"} if redirected else {"handshake-completed"})
