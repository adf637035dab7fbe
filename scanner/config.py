"""The options of a scan, each declared once, and the checks that several options share.

A group of options is a dataclass. Each field has an `Option`: its heading, help and flags. The rest is
derived from these fields: the parameters and the --help of a verb (`cli.verbs`), the keywords of `scanner.scan`
(`api`), and the table in the README (`tests.generated`). The groups that only the command line has are in
`cli.options`.

`SynConfig` is also what a session takes. It is checked when it is made, so no later code asks whether two options fit
together.

Limit: `halfopen --help` imports this module, so it imports neither numpy nor Typer. Functions import what they need.
For the same reason groups have no generated methods but `__init__`: each method of each group is compiled at import.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from .declare import Texts, declared, option
from .errors import UsageError

if TYPE_CHECKING:
    from .rounds.schedule import Keys
    from .targets.files import Tell
    from .targets.hostspace import Shard
    from .targets.names import Resolve
    from .targets.ports import Ports
    from .targets.special import Choice
    from .verdict.loss import Bound

PUBLIC_RATE = 10_000.0  # frames per second: the end of --rate auto towards public addresses
MAX_RATE = 1e9  # frames per second, more than any link carries; infinity and NaN fail this limit too
MAX_SENDERS = 8
TRANSPORTS = ("auto", "xdp", "ring", "raw")
OPTION_SETS = ("os", "mss", "none")
SEED_BITS = 127

TARGETS, PORTS, SPEED, NETWORK = "Targets", "Ports", "Speed", "Network"


@dataclass(kw_only=True, eq=False, repr=False)
class TargetOptions:
    """The targets and ports of a scan, as the user wrote them."""

    targets: Texts = option(
        (), TARGETS, "IPv4 and IPv6 addresses, networks (192.0.2.0/24), ranges (192.0.2.1-20, 10.0-3.*.1) and names.",
        None, fixed=True,
    )  # fmt: skip
    targets_file: Texts = option(
        (),
        TARGETS,
        "Read targets from a file, also TARGET:PORTS; - is standard input.",
        "-iL --targets-file",
        fixed=True,
    )
    again: Texts = option(
        (), TARGETS, "Scan what an earlier result shows; with --open what was open.", "", "RESULTS", fixed=True
    )
    exclude: Texts = option((), TARGETS, "Targets to leave out; repeatable, or separated by commas.", fixed=True)
    exclude_file: Texts = option((), TARGETS, "Read targets to leave out from a file.", fixed=True)
    all_addresses: bool = option(False, TARGETS, "Scan every address of a name, not only the first.")
    ipv4: bool = option(False, TARGETS, "Scan IPv4 only: of names, their IPv4 addresses.", "-4 --ipv4", fixed=True)
    ipv6: bool = option(False, TARGETS, "Scan IPv6 only: of names, their IPv6 addresses.", "-6 --ipv6", fixed=True)
    yes: bool = option(False, TARGETS, "Scan more than 2^20 public addresses without a question.")
    ports: str | None = option(
        None,
        PORTS,
        "22,80,8000-8100,http; - is 1-65535; 0 only if named (default: 1-1024 and usual higher ones).",
        "-p --ports",
    )
    top_ports: int | None = option(None, PORTS, "The N ports most often open, by nmap's file if there is one.", "", "N")
    list_ports: bool = option(False, PORTS, "Print the ports with their names and send nothing.")
    exclude_ports: str | None = option(None, PORTS, "Ports to leave out, by --verify as well.")


def _interfaces() -> Texts:
    from socket import if_nameindex

    return tuple(name for _, name in if_nameindex())


def _whole() -> "Shard":
    from .targets.hostspace import WHOLE

    return WHOLE


@dataclass(frozen=True)
class SynConfig:
    """How a scan is done. Rates in frames per second (0: unlimited), times in seconds.

    Raises UsageError for a value out of range and for values that contradict each other.
    """

    rate: float | None = option(  # None: auto
        None, SPEED, "Frames per second, repeats and resets included; 0: unlimited; auto: what the path carries.",
        typed="auto",
    )  # fmt: skip
    max_rate: float | None = option(
        None, SPEED, "The most that --rate auto reaches (default: 10000 to public targets)."
    )
    retries: int = option(10, SPEED, "The most further passes over silent targets.")
    max_missed: float = option(
        0.01, SPEED, "Stop when fewer missed responders are expected: a number, or a share such as 1%.", typed="0.01"
    )
    max_missed_share: float | None = None  # in place of max_missed: a share of the responders found
    timeout: float | None = option(
        None, SPEED, "Seconds to wait for a host that has not answered (default: 1, and up to 3 in slow networks)."
    )
    seed: int | None = option(None, SPEED, "Fix the order of the probes.", fixed=True)
    shard: "Shard" = option(
        _whole, SPEED, "i/n: scan part i of n parts of the hosts; needs --seed.", typed="1/1", fixed=True
    )
    senders: int = option(1, SPEED, "Threads that send; 2 for more than a million frames per second.")
    transport: str = option(
        "auto", SPEED, "How frames leave: xdp, ring, raw, or auto: the fastest, but seen by tcpdump up to 50000/s.",
        values=TRANSPORTS,
    )  # fmt: skip
    interface: str | None = option(
        None, NETWORK, "Send on this interface.", "-e --interface", fixed=True, values=_interfaces
    )
    source_ip: str | None = option(None, NETWORK, "Send from this address.", fixed=True)
    source_port: int | None = option(
        None,
        NETWORK,
        "One source port for all passes; who sent a reset is then not tested, and not said.",
        "--source-port -g",
        fixed=True,
    )
    ttl: int = option(64, NETWORK, "Time to live of the frames.", fixed=True)
    tos: int = option(  # DSCP "lower effort", RFC 8622
        4, NETWORK, "TOS byte of the probes; with 0 forged resets cannot be told from others.", fixed=True
    )
    options: str = option("os", NETWORK, "TCP options of the probes: os, mss or none.", fixed=True, values=OPTION_SETS)

    def __post_init__(self) -> None:
        from .verdict.loss import MAX_PASSES

        rate, max_rate, most = self.rate, self.max_rate, f"{MAX_RATE:,.0f}"
        seed, shard, port, tos = self.seed, self.shard, self.source_port, self.tos
        limits = (
            (rate is None or 0 <= rate <= MAX_RATE, f"--rate {rate} is out of range: 0 (unlimited) to {most}"),
            (rate is None or max_rate is None, f"--max-rate bounds --rate auto; with --rate {rate} leave it out"),
            (max_rate is None or 1 <= max_rate <= MAX_RATE, f"--max-rate {max_rate} is out of range: 1 to {most}"),
            (0 <= self.retries < MAX_PASSES, f"--retries {self.retries} is out of range: 0 to {MAX_PASSES - 1}"),
            (self.max_missed > 0, f"--max-missed {self.max_missed:g} must be above 0"),
            (self.max_missed_share is None or self.max_missed_share > 0, "--max-missed: a percentage must be above 0"),
            (self.timeout is None or self.timeout > 0, f"--timeout {self.timeout} must be above 0 seconds"),
            (1 <= self.ttl <= 255, f"--ttl {self.ttl} is out of range: 1 to 255"),
            (0 <= tos <= 255, f"--tos {tos} is out of range: 0 to 255"),
            (tos & 3 == 0, f"--tos {tos} sets ECN bits (RFC 3168), which routers rewrite; use a multiple of 4"),
            (self.options in OPTION_SETS, f"--options {self.options!r} is not one of {', '.join(OPTION_SETS)}"),
            (1 <= shard.number <= shard.of, f"--shard {shard.number}/{shard.of}: give i/n with 1 <= i <= n"),
            (shard.of == 1 or seed is not None, "--shard needs --seed: all shards must share one order"),
            (1 <= self.senders <= MAX_SENDERS, f"--senders {self.senders} is out of range: 1 to {MAX_SENDERS}"),
            (self.transport in TRANSPORTS, f"--transport {self.transport!r} is not one of {', '.join(TRANSPORTS)}"),
            (seed is None or abs(seed) < 1 << SEED_BITS, f"--seed {seed} is too large: below 2^{SEED_BITS}"),
            (port is None or 1 <= port <= 65535, f"--source-port {port} is not a port"),
        )
        for holds, message in limits:
            if not holds:
                raise UsageError(message)

    @property
    def bound(self) -> "Bound":
        """When a window needs no further pass."""
        from .verdict.loss import Bound

        return Bound(self.passes, self.max_missed, self.max_missed_share)

    @property
    def passes(self) -> int:
        """The most passes over a silent target."""
        return self.retries + 1


def keys_of(config: SynConfig) -> "Keys":
    """The keys of a new scan. The order's key is the seed, or random; the cookie's key is always random.

    A seed is no secret: shards share it, and it may be small. Who knows the cookie's key can forge replies.
    """
    from .packet.cookie import Key
    from .rounds.schedule import Keys

    order = int.from_bytes(os.urandom(16), "little") if config.seed is None else config.seed
    return Keys(Key.from_bytes(os.urandom(16)), order)


def choice_of(
    options: TargetOptions, counted: int = 0, tell: "Tell | None" = None, whole: bool = False, only_open: bool = False,
    resolve: "Resolve | None" = None,
) -> "Choice":  # fmt: skip
    """The hosts to scan. `counted`: of how many excludes to count what each took. Raises UsageError.

    `tell` is told how much of a list is read, and how many names are resolved: see `files.Tell`. `whole`: a name
    without an address is an error, because it would number the others anew (shards, resumed scans). `only_open`: of
    earlier results only what was open. `resolve`: in place of the system's resolver.
    """
    from .targets.files import read_list
    from .targets.names import resolve as ask_system
    from .targets.own_ports import OwnPorts
    from .targets.spec import Specs
    from .targets.special import choose
    from .targets.typed import separated, typed

    if not (options.targets or options.targets_file or options.again):
        raise UsageError("no target given: name addresses, networks or hosts, a file with -iL, or pipe targets in")
    if (*options.targets_file, *options.again, *options.exclude_file).count("-") > 1:
        raise UsageError("standard input (-) is named twice, and can be read once: put one of the lists into a file")
    if options.ipv4 and options.ipv6:
        raise UsageError("-4 and -6 each leave out what the other one scans: give one of them, or none")
    targets: Specs = chain(typed(options.targets), *(read_list(path, tell) for path in options.targets_file))
    left_out: list[str] = []
    if options.again:
        from .results.again import shown_targets

        targets = chain(targets, shown_targets(options.again, only_open, left_out.append, tell))
    excludes: Specs = chain(*map(separated, options.exclude), *(read_list(path, tell) for path in options.exclude_file))
    family = 4 if options.ipv4 else 6 if options.ipv6 else 0
    own, names = OwnPorts(excluded_ports_of(options)), (family, not whole, tell)
    choice = choose(targets, excludes, resolve or ask_system, options.all_addresses, counted, *names, own)
    return choice._replace(notes=[*left_out, *choice.notes])


def ports_of(options: TargetOptions) -> "Ports":
    """The ports to scan. Raises UsageError."""
    from .targets.files import nmap_services
    from .targets.popular import USUAL_PORTS
    from .targets.ports import format_ports, parse_ports, top_ports

    ports, top = options.ports, options.top_ports
    if top is None:
        return parse_ports(USUAL_PORTS if ports is None else ports, options.exclude_ports)
    if ports is not None:
        raise UsageError(f"--top-ports {top} and -p {ports} both choose the ports: leave one out")
    return parse_ports(format_ports(top_ports(top, nmap_services())), options.exclude_ports)


def usual_ports_text(options: TargetOptions) -> str:
    """In words which ports are scanned without `-p`; "" if the user chose them."""
    from .targets.popular import IN_WORDS

    if options.ports is not None or options.top_ports is not None:
        return ""
    return f"{IN_WORDS}{', less --exclude-ports' if options.exclude_ports else ''}; --list-ports prints them"


def excluded_ports_of(options: TargetOptions) -> "Ports":
    """The ports that no frame may go to. Raises UsageError."""
    from .targets.ports import NO_PORTS, parse_ports

    return NO_PORTS if options.exclude_ports is None else parse_ports(options.exclude_ports)


def config_of(given: Mapping[str, Any]) -> SynConfig:
    """The configuration from what the user typed, by the names of the fields. Raises UsageError."""
    from .targets.hostspace import Shard

    typed = {name: given.get(name, option.default) for name, option in declared(SynConfig).items()}
    rate, missed, shard = typed["rate"], typed["max_missed"], typed["shard"]
    try:
        part, parts = map(int, shard.split("/"))
    except ValueError:
        raise UsageError(f"--shard {shard!r} is not i/n, such as 1/4") from None
    share = missed.endswith("%")
    bound = _number("--max-missed", missed.removesuffix("%"), "a number such as 0.01, or a percentage such as 1%")
    typed |= {
        "rate": None
        if rate == "auto"
        else _number("--rate", rate, "auto, or frames a second such as 500, 10k or 1M", per_second),
        "shard": Shard(part, parts),
        # A share of the responders found leaves the number itself at a value that passes the checks.
        "max_missed": 1.0 if share else bound,
        "max_missed_share": bound / 100 if share else None,
    }
    return SynConfig(**typed)


def per_second(text: str) -> float:
    """`500`, `10k` or `1M` → a number of frames. Raises ValueError."""
    factor = {"k": 1e3, "K": 1e3, "M": 1e6}.get(text[-1:])
    return float(text[:-1]) * factor if factor else float(text)


def _number(flag: str, text: str, wanted: str, read: Callable[[str], float] = float) -> float:
    try:
        return read(text)
    except ValueError:
        raise UsageError(f"{flag} {text!r} is not {wanted}") from None
