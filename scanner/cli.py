"""The command line: text in, a checked request out, errors to exit codes.

A verb here reads its options, makes the request and calls one function; what it prints on stdout is
the result, everything else goes to stderr. Modules are imported by the verb that needs them, because
`--help` must not pay for numpy or Scapy.

Exit codes: 0 done, 1 the run failed, 2 the request cannot be carried out as written, 130 interrupted
(what was learned is written).
"""

import os
import sys
from typing import Annotated, Any, Optional

import typer

from . import __version__
from .errors import ScannerError

app = typer.Typer(
    name="halfopen",
    help="Half-open TCP scans whose answers can be trusted, and verdicts from anyone's capture.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=True,
)
_CommandLineError: Any = typer.BadParameter.__base__  # what click raises for options it cannot read


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"halfopen {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


Strings = Optional[list[str]]  # noqa: UP045 (Typer reads these at run time, on Python 3.10 too)
Text = Optional[str]  # noqa: UP045
Number = Optional[float]  # noqa: UP045
Whole = Optional[int]  # noqa: UP045

# Options that several verbs share, each written once.
Targets = Annotated[
    Strings, typer.Argument(help="Addresses, CIDR, ranges (192.0.2.1-20), octet ranges (10.0-3.*.1), names.")
]
Ports = Annotated[str, typer.Option("-p", "--ports", help="22,80,8000-8100,http; - for 1-65535.")]
Lists = Annotated[Strings, typer.Option("-iL", "--targets-file", help="Read targets from a file (- for stdin).")]
Exclude = Annotated[Strings, typer.Option(help="Targets to leave out; repeatable, comma separated.")]
ExcludeFile = Annotated[Strings, typer.Option(help="Read targets to leave out from a file.")]
ExcludePorts = Annotated[Text, typer.Option(help="Ports to leave out.")]
AllAddresses = Annotated[
    bool, typer.Option("--all-addresses", help="Scan every address of a name, not only the first.")
]
Rate = Annotated[str, typer.Option(help="A second, over everything sent; 0: unlimited; auto: as much as is not lost.")]
MaxRate = Annotated[Number, typer.Option(help="Where --rate auto ends (public targets: 10000 unless given).")]
Retries = Annotated[int, typer.Option(help="Further passes over silent targets, at most.")]
MaxMissed = Annotated[
    str, typer.Option(help="Enough when fewer responders are expected to be missed: 0.01, or 1% of those found.")
]
Timeout = Annotated[Number, typer.Option(help="Seconds to wait after a pass (default: measured).")]
Seed = Annotated[Whole, typer.Option(help="Fix the order and the cookies.")]
ShardOf = Annotated[str, typer.Option(help="i/n: this process's part of the hosts.")]
Interface = Annotated[Text, typer.Option("-e", "--interface", help="Send by this interface.")]
SourceIp = Annotated[Text, typer.Option(help="Send from this address.")]
Form = Annotated[Text, typer.Option("-f", "--format", help="table, jsonl or csv, on stdout.")]
Output = Annotated[Strings, typer.Option("-o", "--output", help="Also write FILE.txt, .jsonl or .csv; repeatable.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite output files.")]
OnlyOpen = Annotated[bool, typer.Option("--open", help="Only open ports.")]
Everything = Annotated[bool, typer.Option("--all", help="Every row: nothing folded, summed or left out.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="No summary and no progress.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Name open ports as they are found.")]
Stats = Annotated[Text, typer.Option(metavar="FILE", help="Write the sums of the summary as JSON.")]
Ladder = Annotated[Text, typer.Option(metavar="[IP:PORT]", help="Draw a target's exchange; each, if there are few.")]


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """A verb's parameters as its request's fields: repeatable ones as tuples."""
    repeatable = ("targets", "targets_file", "exclude", "exclude_file", "output", "captures", "scanner", "target")
    return {name: tuple(value or ()) if name in repeatable else value for name, value in options.items()}


@app.command()
def syn(
    targets: Targets = None,
    ports: Ports = "1-1024",
    targets_file: Lists = None,
    exclude: Exclude = None,
    exclude_file: ExcludeFile = None,
    exclude_ports: ExcludePorts = None,
    all_addresses: AllAddresses = False,
    rate: Rate = "auto",
    max_rate: MaxRate = None,
    retries: Retries = 10,
    max_missed: MaxMissed = "0.01",
    timeout: Timeout = None,
    seed: Seed = None,
    shard: ShardOf = "1/1",
    interface: Interface = None,
    source_ip: SourceIp = None,
    source_port: Annotated[Whole, typer.Option("-g", "--source-port", help="One source port for all passes.")] = None,
    ttl: Annotated[int, typer.Option(help="Time to live of what is sent.")] = 64,
    tos: Annotated[int, typer.Option(help="TOS byte of probes; 0 gives up the mark that tells forged resets.")] = 4,
    options: Annotated[str, typer.Option(help="TCP options of a probe: os, mss or none.")] = "os",
    senders: Annotated[
        int, typer.Option(help="Transmit rings with a thread each; 2 for more than a million probes a second.")
    ] = 1,
    verify: Annotated[bool, typer.Option("--verify", help="Complete a handshake with every open port, too.")] = False,
    form: Form = None,
    output: Output = None,
    force: Force = False,
    only_open: OnlyOpen = False,
    everything: Everything = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    record: Annotated[
        Text, typer.Option(metavar="FILE", help="Record every frame: FILE.pcapng or .pcap, or with .gz.")
    ] = None,
    ladder: Ladder = None,
    stats: Stats = None,
) -> None:
    """Half-open scan: SYN out; SYN/ACK is open, RST closed, silence filtered. Needs CAP_NET_RAW."""
    options_given = _given(locals())
    from .command import ScanRequest, run_syn

    raise typer.Exit(run_syn(ScanRequest(**options_given)))


@app.command()
def connect(
    targets: Targets = None,
    ports: Ports = "1-1024",
    targets_file: Lists = None,
    exclude: Exclude = None,
    exclude_file: ExcludeFile = None,
    exclude_ports: ExcludePorts = None,
    all_addresses: AllAddresses = False,
    rate: Rate = "auto",
    max_rate: MaxRate = None,
    retries: Retries = 10,
    max_missed: MaxMissed = "0.01",
    timeout: Timeout = None,
    seed: Seed = None,
    shard: ShardOf = "1/1",
    interface: Interface = None,
    source_ip: SourceIp = None,
    form: Form = None,
    output: Output = None,
    force: Force = False,
    only_open: OnlyOpen = False,
    everything: Everything = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    stats: Stats = None,
) -> None:
    """Full three-way handshake through the system's own sockets. Needs no privileges."""
    options_given = _given(locals())
    from .command import ScanRequest, run_connect

    raise typer.Exit(run_connect(ScanRequest(**options_given)))


@app.command()
def classify(
    captures: Annotated[
        list[str], typer.Argument(help="pcap or pcapng files, gzip or plain; - for stdin. Several are one capture.")
    ],
    timeout: Annotated[
        float, typer.Option(help="Seconds a probe must have waited to be called filtered; 0: any.")
    ] = 1.0,
    orphans: Annotated[
        bool, typer.Option("--orphans", help="Also rows for replies whose probe was not captured.")
    ] = False,
    scanner: Annotated[Strings, typer.Option(help="Only this scanner's probes.")] = None,
    target: Annotated[Strings, typer.Option(help="Only these targets.")] = None,
    ports: Annotated[Text, typer.Option("-p", "--ports", help="Only these ports.")] = None,
    ladder: Ladder = None,
    form: Form = None,
    output: Output = None,
    force: Force = False,
    only_open: OnlyOpen = False,
    everything: Everything = False,
    quiet: Quiet = False,
) -> None:
    """Verdicts from recorded packets, of any scanner or client. Needs no privileges and no network."""
    options_given = _given(locals())
    from .offline import ClassifyRequest, run_classify

    raise typer.Exit(run_classify(ClassifyRequest(**options_given)))


@app.command()
def demo() -> None:
    """A real scan of a network in a box on this machine: every state and reason. No privileges needed."""
    from .command import run_demo

    raise typer.Exit(run_demo())


def _ladder_of_each(arguments: list[str]) -> list[str]:
    """`--ladder` may stand alone, which Typer has no word for: then it draws each target."""
    following = [*arguments[1:], ""]
    named = [after.count(":") == 1 or after.startswith("[") for after in following]
    return [
        "--ladder=each" if each == "--ladder" and not name else each
        for each, name in zip(arguments, named, strict=False)
    ]


def main() -> None:
    """The entry point: run the verb, print errors meant for the user as one line."""
    _have_standard_streams()
    try:
        sys.exit(app(args=_ladder_of_each(sys.argv[1:]), standalone_mode=False))
    except ScannerError as error:
        print(f"halfopen: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except _CommandLineError as error:
        text = error.format_message()
        print(text if "\n" in text else f"halfopen: {text}", file=sys.stderr)  # several lines: the help itself
        sys.exit(2)
    except BrokenPipeError:
        from .output import closed_pipe

        sys.exit(closed_pipe())
    except KeyboardInterrupt:
        sys.exit(130)


def _have_standard_streams() -> None:
    """Whoever starts us with a stream closed (`>&-`) must not get a socket of ours in its place."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
