"""Who made a network card: the first three bytes of its MAC address, looked up in the registry of the IEEE.

netaddr carries the registry. Reading its index takes 80 ms, so it is read at the first address that may be in it. An
address that a system has made up itself (virtual machines, containers, phones that hide) has the bit "locally
administered" and belongs to no maker.

Limits: the registry is as old as the installed netaddr. Only the large blocks (MA-L, 24 bits) are looked up.

Sources: IEEE 802-2014, 8.2 (universal and local addresses); standards-oui.ieee.org.
"""

from functools import lru_cache

_LOCAL_OR_GROUP = 0b11  # bits of the first byte


@lru_cache(maxsize=1 << 12)
def vendor_of(block: bytes) -> str | None:
    """The maker of the MAC addresses that begin with these three bytes; None: not known."""
    if block[0] & _LOCAL_OR_GROUP:
        return None
    import netaddr

    try:
        return str(netaddr.OUI(int.from_bytes(block, "big")).registration().org) or None
    except (netaddr.NotRegisteredError, OSError):  # an installation may have left the registry out
        return None
