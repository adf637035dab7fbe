"""A small network inside this machine, made of network namespaces, for `halfopen demo`.

The demo shows that verdicts are right, so it needs a host whose every port is known. The lab makes one:
`box` connects two namespaces by a cable, `listeners` opens ports in them, and `firewall` installs one rule
for each way in which a port can answer. `demo` holds the ground truth and the comparison. `permissions` finds out,
by trying, whether this machine allows a lab. The tests build larger networks from the same parts.
"""

from .box import Box
from .firewall import PortKind
from .listeners import Listeners
from .namespace import Namespace
from .permissions import here, reenter

__all__ = ["Box", "Listeners", "Namespace", "PortKind", "here", "reenter"]
