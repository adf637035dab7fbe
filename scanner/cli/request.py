"""The options of `syn`, `connect` and `plan` as they were typed, and what they mean.

A request is plain text and numbers, as the command line has them. From it come the three things that a scan is made
of (targets, ports and configuration), each checked when it is asked for, and what a resumed scan is recognised by.
"""

import hashlib
import os
from dataclasses import dataclass

from ..config import SynConfig
from ..errors import UsageError
from ..targets.hostspace import HostSpace, Shard
from ..targets.ports import USUAL_PORTS, Ports, format_ports, parse_ports, top_ports
from ..targets.spec import nmap_services, read_list, resolve
from ..targets.special import Choice, choose


@dataclass(frozen=True, kw_only=True)
class ScanRequest:
    """The options of `halfopen syn` or `connect` as they were typed; those that only `syn` has come last."""

    targets: tuple[str, ...]
    targets_file: tuple[str, ...]
    ports: str | None
    exclude: tuple[str, ...]
    exclude_file: tuple[str, ...]
    exclude_ports: str | None
    all_addresses: bool
    rate: str
    max_rate: float | None
    retries: int
    max_missed: str
    timeout: float | None
    seed: int | None
    shard: str
    interface: str | None
    source_ip: str | None
    top_ports: int | None = None
    list_ports: bool = False
    yes: bool = False
    form: str | None = None
    output: tuple[str, ...] = ()
    named: tuple[tuple[str, str], ...] = ()  # formats and files, as -oX and its kind name them
    force: bool = False
    resume: str | None = None
    only_open: bool = False
    everything: bool = False
    quiet: bool = False
    verbose: bool = False
    progress: str = "auto"
    packet_trace: bool = False
    stats: str | None = None
    source_port: int | None = None
    ttl: int = 64
    tos: int = 4
    options: str = "os"
    senders: int = 1
    verify: bool = False
    record: str | None = None
    ladder: str | None = None

    def config(self) -> SynConfig:
        """The checked configuration. Raises UsageError."""
        missed, share = _missed(self.max_missed)
        return SynConfig(
            rate=None if self.rate == "auto" else _number("--rate", self.rate, "auto, or frames a second"),
            max_rate=self.max_rate, retries=self.retries, max_missed=missed, max_missed_share=share,
            timeout=self.timeout, seed=self.seed,
            shard=_shard(self.shard), interface=self.interface, source_ip=self.source_ip, source_port=self.source_port,
            ttl=self.ttl, tos=self.tos, options=self.options, senders=self.senders,
        )  # fmt: skip

    def port_column(self) -> Ports:
        """The ports. Raises UsageError."""
        if self.top_ports is None:
            return parse_ports(USUAL_PORTS if self.ports is None else self.ports, self.exclude_ports)
        if self.ports is not None:
            raise UsageError(f"--top-ports {self.top_ports} and -p {self.ports} both choose the ports: leave one out")
        return parse_ports(format_ports(top_ports(self.top_ports, nmap_services())), self.exclude_ports)

    @property
    def files(self) -> list[str]:
        """The output files, without standard output."""
        return [path for path in (*self.output, *(path for _, path in self.named)) if path != "-"]

    def inputs(self, verb: str, hosts: HostSpace, ports: Ports) -> dict[str, str]:
        """What a resumed scan must share with its earlier part, by the names that users know."""
        named = [f"{form}:{os.path.realpath(path)}" for form, path in self.named if path != "-"]
        options = {
            "verb": verb,
            "targets": self.targets, "-iL": self.targets_file, "-p": format_ports(ports), "--exclude": self.exclude,
            "--exclude-file": self.exclude_file, "--shard": self.shard, "--seed": self.seed, "-e": self.interface,
            "--source-ip": self.source_ip, "--source-port": self.source_port, "--ttl": self.ttl, "--tos": self.tos,
            "--options": self.options, "--verify": self.verify, "--open": self.only_open, "--all": self.everything,
            "-o": (*(os.path.realpath(path) for path in self.output if path != "-"), *named),
        }  # fmt: skip
        spans = hashlib.sha256(repr(hosts.spans()).encode()).hexdigest()[:16]
        meant = {"list of hosts (of all targets, files, names and excludes)": f"{hosts.size:,} hosts with sum {spans}"}
        texts = {name: " ".join(each) if isinstance(each, tuple) else str(each) for name, each in options.items()}
        return {name: text for name, text in texts.items() if text not in ("", "None", "False")} | meant

    def choice(self) -> Choice:
        """The targets. Raises UsageError."""
        specs = [*self.targets, *(spec for path in self.targets_file for spec in read_list(path))]
        if not specs:
            raise UsageError("no target given: name addresses, networks or hosts, or a file with -iL")
        excludes = [part for each in self.exclude for part in each.split(",")]
        excludes += [spec for path in self.exclude_file for spec in read_list(path)]
        return choose(specs, excludes, resolve, self.all_addresses)


def _number(option: str, text: str, wanted: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{option} {text!r} is not {wanted}") from None


def _missed(text: str) -> tuple[float, float | None]:
    """The bound as a number, or as a share of the responders."""
    wanted = "a number such as 0.01, or a percentage such as 1%"
    if text.endswith("%"):
        return 1.0, _number("--max-missed", text[:-1], wanted) / 100
    return _number("--max-missed", text, wanted), None


def _shard(text: str) -> Shard:
    try:
        number, count = text.split("/")
        return Shard(int(number), int(count))
    except ValueError:
        raise UsageError(f"--shard {text!r} is not i/n, such as 1/4") from None
