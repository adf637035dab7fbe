"""The command line: text in, a checked request out, errors to exit codes.

A verb here reads its options, makes the request and calls one function; what it prints on stdout is
the result, everything else goes to stderr. Modules are imported by the verb that needs them, because
`--help` must not pay for numpy or Scapy.

Exit codes: 0 done, 1 the run failed, 2 the request cannot be carried out as written, 130 interrupted
(what was learned is written).
"""

import sys
from typing import Annotated, Any

import typer

from ..errors import ScannerError
from . import options as opt
from .examples import (
    CLASSIFY_EXAMPLES,
    CONNECT_EXAMPLES,
    DIFF_EXAMPLES,
    PLAN_EXAMPLES,
    REPORT_EXAMPLES,
    ROOT_EXAMPLES,
    SYN_EXAMPLES,
)

app = typer.Typer(
    name="halfopen",
    help="Half-open TCP scans whose answers can be trusted, and verdicts from anyone's capture.",
    epilog=ROOT_EXAMPLES,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=True,
)
_CommandLineError: Any = typer.BadParameter.__base__  # what click raises for options it cannot read


def _version(wanted: bool) -> None:
    if wanted:
        from .version import version_text

        typer.echo(version_text())
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print versions, and what the kernel allows."),
    ] = False,
) -> None:
    pass


_NMAPS_WAY = {
    "output_xml": ("xml", ".xml"),
    "output_grepable": ("gnmap", ".gnmap"),
    "output_normal": ("table", ".nmap"),
}


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """A verb's parameters as its request's fields: repeatable ones as tuples."""
    repeatable = ("targets", "targets_file", "exclude", "exclude_file", "output", "captures", "scanner", "target")
    fields = {name: tuple(value or ()) if name in repeatable else value for name, value in options.items()}
    named: list[tuple[str, str]] = []
    if _NMAPS_WAY.keys() <= fields.keys():
        base = fields.pop("output_all")
        for name, (form, suffix) in _NMAPS_WAY.items():
            paths = (fields.pop(name), base and f"{base}{suffix}")
            named += [(form, str(path)) for path in paths if path]
        fields["named"] = tuple(named)
    return fields


@app.command(epilog=SYN_EXAMPLES)
def syn(
    targets: opt.Targets = None,
    ports: opt.Ports = None,
    top_ports: opt.TopPorts = None,
    list_ports: opt.ListPorts = False,
    targets_file: opt.Lists = None,
    exclude: opt.Exclude = None,
    exclude_file: opt.ExcludeFile = None,
    exclude_ports: opt.ExcludePorts = None,
    all_addresses: opt.AllAddresses = False,
    yes: opt.Yes = False,
    rate: opt.Rate = "auto",
    max_rate: opt.MaxRate = None,
    retries: opt.Retries = 10,
    max_missed: opt.MaxMissed = "0.01",
    timeout: opt.Timeout = None,
    seed: opt.Seed = None,
    shard: opt.ShardOf = "1/1",
    interface: opt.Interface = None,
    source_ip: opt.SourceIp = None,
    source_port: Annotated[
        opt.Whole, typer.Option("-g", "--source-port", help="One source port for all passes.")
    ] = None,
    ttl: Annotated[int, typer.Option(help="Time to live of what is sent.")] = 64,
    tos: Annotated[int, typer.Option(help="TOS byte of probes; 0 gives up the mark that tells forged resets.")] = 4,
    options: opt.Options = "os",
    senders: opt.Senders = 1,
    verify: Annotated[bool, typer.Option("--verify", help="Complete a handshake with every open port, too.")] = False,
    form: opt.Form = None,
    output: opt.Output = None,
    output_xml: opt.OutputXml = None,
    output_grepable: opt.OutputGrepable = None,
    output_normal: opt.OutputNormal = None,
    output_all: opt.OutputAll = None,
    force: opt.Force = False,
    resume: opt.Resume = None,
    only_open: opt.OnlyOpen = False,
    everything: opt.Everything = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
    progress: opt.ProgressForm = "auto",
    packet_trace: opt.PacketTrace = False,
    record: Annotated[
        opt.Text, typer.Option(metavar="FILE", help="Record every frame: FILE.pcapng or .pcap, or with .gz.")
    ] = None,
    ladder: opt.Ladder = None,
    stats: opt.Stats = None,
) -> None:
    """Half-open scan: SYN out; SYN/ACK is open, RST closed, silence filtered. Needs CAP_NET_RAW."""
    options_given = _given(locals())
    from ..packet.template import building_ahead

    with building_ahead():
        from .request import ScanRequest
        from .run import run_syn

        raise typer.Exit(run_syn(ScanRequest(**options_given)))


@app.command(epilog=CONNECT_EXAMPLES)
def connect(
    targets: opt.Targets = None,
    ports: opt.Ports = None,
    top_ports: opt.TopPorts = None,
    list_ports: opt.ListPorts = False,
    targets_file: opt.Lists = None,
    exclude: opt.Exclude = None,
    exclude_file: opt.ExcludeFile = None,
    exclude_ports: opt.ExcludePorts = None,
    all_addresses: opt.AllAddresses = False,
    yes: opt.Yes = False,
    rate: opt.Rate = "auto",
    max_rate: opt.MaxRate = None,
    retries: opt.Retries = 10,
    max_missed: opt.MaxMissed = "0.01",
    timeout: opt.Timeout = None,
    seed: opt.Seed = None,
    shard: opt.ShardOf = "1/1",
    interface: opt.Interface = None,
    source_ip: opt.SourceIp = None,
    form: opt.Form = None,
    output: opt.Output = None,
    output_xml: opt.OutputXml = None,
    output_grepable: opt.OutputGrepable = None,
    output_normal: opt.OutputNormal = None,
    output_all: opt.OutputAll = None,
    force: opt.Force = False,
    resume: opt.Resume = None,
    only_open: opt.OnlyOpen = False,
    everything: opt.Everything = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
    progress: opt.ProgressForm = "auto",
    stats: opt.Stats = None,
) -> None:
    """Full three-way handshake through the system's own sockets. Needs no privileges."""
    options_given = _given(locals())
    from .request import ScanRequest
    from .run import run_connect

    raise typer.Exit(run_connect(ScanRequest(**options_given)))


@app.command(epilog=PLAN_EXAMPLES)
def plan(
    targets: opt.Targets = None,
    ports: opt.Ports = None,
    top_ports: opt.TopPorts = None,
    list_ports: opt.ListPorts = False,
    targets_file: opt.Lists = None,
    exclude: opt.Exclude = None,
    exclude_file: opt.ExcludeFile = None,
    exclude_ports: opt.ExcludePorts = None,
    all_addresses: opt.AllAddresses = False,
    rate: opt.Rate = "auto",
    max_rate: opt.MaxRate = None,
    retries: opt.Retries = 10,
    max_missed: opt.MaxMissed = "0.01",
    timeout: opt.Timeout = None,
    seed: opt.Seed = None,
    shard: opt.ShardOf = "1/1",
    interface: opt.Interface = None,
    source_ip: opt.SourceIp = None,
    options: opt.Options = "os",
) -> None:
    """What `syn` would send: targets, packets, time, routes, what is left out. Sends nothing, needs no privileges."""
    options_given = _given(locals())
    from .plan import run_plan
    from .request import ScanRequest

    raise typer.Exit(run_plan(ScanRequest(**options_given)))


@app.command(epilog=CLASSIFY_EXAMPLES)
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
    scanner: Annotated[opt.Strings, typer.Option(help="Only this scanner's probes.")] = None,
    target: Annotated[opt.Strings, typer.Option(help="Only these targets.")] = None,
    ports: Annotated[opt.Text, typer.Option("-p", "--ports", help="Only these ports.")] = None,
    ladder: opt.Ladder = None,
    form: opt.Form = None,
    output: opt.Output = None,
    output_xml: opt.OutputXml = None,
    output_grepable: opt.OutputGrepable = None,
    output_normal: opt.OutputNormal = None,
    output_all: opt.OutputAll = None,
    force: opt.Force = False,
    only_open: opt.OnlyOpen = False,
    everything: opt.Everything = False,
    quiet: opt.Quiet = False,
) -> None:
    """Verdicts from recorded packets, of any scanner or client. Needs no privileges and no network."""
    options_given = _given(locals())
    from ..classifier.run import ClassifyRequest, run_classify

    raise typer.Exit(run_classify(ClassifyRequest(**options_given)))


@app.command()
def demo() -> None:
    """A real scan of a network in a box on this machine: every state and reason. No privileges needed."""
    from .run import run_demo

    raise typer.Exit(run_demo())


@app.command(epilog=REPORT_EXAMPLES)
def report(
    results: Annotated[list[str], typer.Argument(help="JSON lines, CSV, XML (nmap's too), captures; - for stdin.")],
    output: Annotated[str, typer.Option("-o", "--output", metavar="FILE", help="The page; - is stdout.")],
    title: Annotated[opt.Text, typer.Option(help="The heading of the page.")] = None,
    force: opt.Force = False,
    quiet: opt.Quiet = False,
) -> None:
    """Results as one HTML page that opens offline: map, charts, and a table to search. Needs halfopen[report]."""
    from ..report import ReportRequest, run_report

    raise typer.Exit(run_report(ReportRequest(tuple(results), output, title, force, quiet)))


@app.command(epilog=DIFF_EXAMPLES)
def diff(
    old: Annotated[str, typer.Argument(help="JSON lines, CSV, XML (nmap's too) or a capture; - for stdin.")],
    new: Annotated[str, typer.Argument(help="The same of a later scan, in any of these formats.")],
    form: Annotated[opt.Text, typer.Option("-f", "--format", help="table or jsonl.")] = None,
    reasons: Annotated[bool, typer.Option("--reasons", help="A new reason for a state is a change, too.")] = False,
    only_open: Annotated[bool, typer.Option("--open", help="Only changes from or to open.")] = False,
    everything: opt.Everything = False,
    quiet: opt.Quiet = False,
) -> None:
    """What changed between two results, host by host. Exit code 0: nothing, 1: something, 2: an error."""
    from ..results.diff import DiffRequest, run_diff

    raise typer.Exit(run_diff(DiffRequest(old, new, form, reasons, only_open, everything, quiet)))


def _ladder_of_each(arguments: list[str]) -> list[str]:
    """`--ladder` may stand alone, which Typer has no word for: then it draws each target."""
    following = [*arguments[1:], ""]
    named = [after.count(":") == 1 or after.startswith("[") for after in following]
    return [
        "--ladder=each" if each == "--ladder" and not name else each
        for each, name in zip(arguments, named, strict=False)
    ]


def main() -> None:
    """Run the verb, print errors meant for the user as one line. Ends in SystemExit."""
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
        from ..output import closed_pipe

        sys.exit(closed_pipe())
    except OSError as error:  # a full disk behind standard output, mostly
        print(f"halfopen: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
