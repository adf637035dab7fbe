"""Zones of link-local targets: which spec is meant on which link."""

from ipaddress import IPv6Address

import pytest

from scanner.config import TargetOptions, choice_of
from scanner.errors import UsageError
from scanner.packet.addresses import to_text
from scanner.targets.zones import noted, without_zone, zone_at

SPECS = {
    "fe80::1%eth0": ("fe80::1", "eth0"),
    "FE80::a%br-lan.5": ("FE80::a", "br-lan.5"),
    "fe80::%3/64": ("fe80::/64", "3"),
    "fe80::1-fe80::9%eth0": ("fe80::1-fe80::9", "eth0"),
    "2001:db8::1": ("2001:db8::1", ""),
}


@pytest.mark.parametrize("spec", SPECS)
def test_the_zone_of_a_spec(spec: str) -> None:
    assert without_zone(spec) == SPECS[spec]


@pytest.mark.parametrize(
    "spec", ["%eth0", "fe80::1%", "fe80::1%a%b", "fe80::1%eth0/x", "fe80::1%a b", "fe80::1%eth0/64/64"]
)
def test_no_zone(spec: str) -> None:
    with pytest.raises(UsageError):
        without_zone(spec)


def chosen(*targets: str, **more: object) -> dict[str, str]:
    """Each host and its zone."""
    hosts = choice_of(TargetOptions(targets=targets, **more)).hosts  # type: ignore[arg-type]
    texts = to_text(hosts.pick(range(hosts.size)))
    return {text: zone_at(hosts.zones, int(IPv6Address(text))) if ":" in text else "" for text in texts}


def test_hosts_and_their_zones() -> None:
    found = chosen("fe80::8%a", "fe80::9%a", "fe80::%b/126", "192.0.2.1", "2001:db8::1", exclude=("fe80::2,fe80::3%a",))
    zones = {"fe80::8": "a", "fe80::9": "a", "fe80::": "b", "fe80::1": "b", "192.0.2.1": "", "2001:db8::1": ""}
    assert found == zones


def test_zones_in_a_file(tmp_path: object) -> None:
    path = tmp_path / "list"  # type: ignore[operator]
    path.write_text("192.0.2.1 fe80::1%a # fe80::5%b\nfe80::2%b\n")
    assert chosen(targets_file=(str(path),)) == {"192.0.2.1": "", "fe80::1": "a", "fe80::2": "b"}


TWO = [("fe80::1%a", "fe80::1%b"), ("fe80::%a/120", "fe80::7%b"), ("fe80::7%b", "fe80::7%a", "fe80::7%b")]


@pytest.mark.parametrize("targets", TWO)
def test_one_address_on_two_links(targets: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="one address has two zones"):
        chosen(*targets)


@pytest.mark.parametrize("target", ["2001:db8::1%a", "fec0::1%a", "::1%a", "::ffff:192.0.2.1%a"])
def test_only_link_local_addresses_have_a_zone(target: str) -> None:
    with pytest.raises(UsageError, match="only link-local addresses"):
        chosen(target)


def test_specs_pass_by_unchanged() -> None:
    zoned: list[str] = []
    specs = ["fe80::1%a", b"192.0.2.1\nfe80::2%b x # fe80::3%c\n", b"192.0.2.2\n"]
    assert (list(noted(specs, zoned)), zoned) == (specs, ["fe80::1%a", "fe80::2%b"])
