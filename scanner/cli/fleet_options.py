"""The options of a fleet: those that `syn` and `connect` have for it, and those of the verb `worker`.

A password is no option, because every user of a machine sees its command lines: see `scanner.fleet.link`.
"""

from dataclasses import dataclass

from ..declare import Texts, option

FLEET = "Fleet"

TLS_CA = (None, FLEET, "Trust servers whose certificate this authority has signed.", "", "FILE")
CREDS = (None, FLEET, "Credentials as NATS has them; user and password are read from the environment.", "", "FILE")
INSECURE = (False, FLEET, "Plain text also to public addresses.")


@dataclass(kw_only=True, eq=False, repr=False)
class FleetOptions:
    """Who scans, if it is not this machine."""

    fleet: str | None = option(None, FLEET, "Let the workers at this server scan: nats://HOST:4222.", "", "URL")
    tag: str | None = option(None, FLEET, "Only workers with this tag.")
    tls_ca: str | None = option(*TLS_CA)
    creds: str | None = option(*CREDS)
    insecure: bool = option(*INSECURE)


@dataclass(kw_only=True, eq=False, repr=False)
class WorkerOptions:
    """For whom a worker works, and what it may do."""

    server: str | None = option(None, FLEET, "nats://HOST:4222, or tls://HOST:4222.", None)
    name: str | None = option(None, FLEET, "What others call this worker (default: the name of the host).")
    tag: Texts = option((), FLEET, "Also scans that ask for this tag; repeatable.")
    max_rate: float | None = option(None, FLEET, "The most frames per second that leave this machine.")
    allow: Texts = option((), FLEET, "Only scans of these addresses; repeatable.", "", "CIDR")
    deny: Texts = option((), FLEET, "No scan of these addresses; repeatable.", "", "CIDR")
    tls_ca: str | None = option(*TLS_CA)
    creds: str | None = option(*CREDS)
    insecure: bool = option(*INSECURE)
    print_permissions: bool = option(False, FLEET, "Print what a server must permit a worker, and end.")
    quiet: bool = option(False, FLEET, "No lines about what it does.", "-q --quiet")
