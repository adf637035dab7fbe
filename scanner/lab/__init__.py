"""The network in a box: a scanner, a target and a firewall on one machine, made of network namespaces.

A scanner is only worth what it says about known hosts. The lab makes such hosts: `box` wires namespaces
together, `targets` listens in them, `firewall` installs one rule for each way of answering, and `scene` is
the demo's ground truth as data. `wire` loses and delays frames in between, and `scenes` are bad paths with
their truth. `permissions` finds out whether this machine lets us, by trying.
"""

from .box import Box
from .firewall import Kind
from .namespace import Namespace
from .permissions import here, permission, reenter
from .targets import Listeners
from .wire import Faults, Way

__all__ = ["Box", "Faults", "Kind", "Listeners", "Namespace", "Way", "here", "permission", "reenter"]
