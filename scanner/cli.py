"""The command line: text in, a checked request out, errors to exit codes.

A verb here reads its options, makes the request and calls one function; what it prints on stdout is
the result, everything else goes to stderr. Modules are imported by the verb that needs them, because
`--help` must not pay for numpy or Scapy.

Exit codes: 0 done, 1 the run failed, 2 the request cannot be carried out as written, 130 interrupted
(what was learned is written).
"""

import sys
from typing import Annotated, Optional

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
_INPUT, _PROBES, _OUTPUT = "Targets", "Probes", "Output"


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"halfopen {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    pass


Targets = Annotated[Optional[list[str]], typer.Argument(help="Addresses, CIDR, ranges (192.0.2.1-20), octet ranges (10.0-3.*.1), names.")]  # noqa: UP045
Ports = Annotated[str, typer.Option("-p", "--ports", help="22,80,8000-8100,http; - for 1-65535.")]
Lists = Annotated[Optional[list[str]], typer.Option("-iL", "--targets-file", help="Read targets from a file (- for stdin).")]  # noqa: UP045


@app.command()
def syn(
    targets: Targets = None,
    ports: Ports = "1-1024",
    targets_file: Lists = None,
    exclude: Annotated[Optional[list[str]], typer.Option(help="Targets to leave out; repeatable, comma separated.")] = None,  # noqa: UP045
    exclude_file: Annotated[Optional[list[str]], typer.Option(help="Read targets to leave out from a file.")] = None,  # noqa: UP045
    exclude_ports: Annotated[Optional[str], typer.Option(help="Ports to leave out.")] = None,  # noqa: UP045
    all_addresses: Annotated[bool, typer.Option(help="Scan every address of a name, not only the first.")] = False,
    rate: Annotated[float, typer.Option(help="Frames a second over everything sent; 0: unlimited.")] = 10_000,
    retries: Annotated[int, typer.Option(help="Further passes over silent targets, at most.")] = 10,
    max_missed: Annotated[float, typer.Option(help="Stop when fewer responders than this are expected to be missed.")] = 0.01,
    timeout: Annotated[Optional[float], typer.Option(help="Seconds to wait after a pass (default: measured).")] = None,  # noqa: UP045
    seed: Annotated[Optional[int], typer.Option(help="Fix the order and the cookies.")] = None,  # noqa: UP045
    shard: Annotated[str, typer.Option(help="i/n: this process's part of the hosts.")] = "1/1",
    interface: Annotated[Optional[str], typer.Option("-e", "--interface", help="Send by this interface.")] = None,  # noqa: UP045
    source_ip: Annotated[Optional[str], typer.Option(help="Send from this address.")] = None,  # noqa: UP045
    source_port: Annotated[Optional[int], typer.Option("-g", "--source-port", help="One source port for all passes.")] = None,  # noqa: UP045
    ttl: Annotated[int, typer.Option(help="Time to live of what is sent.")] = 64,
    tos: Annotated[int, typer.Option(help="TOS byte of probes; 0 gives up the mark that tells forged resets.")] = 4,
    options: Annotated[str, typer.Option(help="TCP options of a probe: os, mss or none.")] = "os",
    form: Annotated[Optional[str], typer.Option("-f", "--format", help="table, jsonl or csv, on stdout.")] = None,  # noqa: UP045
    output: Annotated[Optional[list[str]], typer.Option("-o", "--output", help="Also write FILE.txt, .jsonl or .csv; repeatable.")] = None,  # noqa: UP045
    force: Annotated[bool, typer.Option(help="Overwrite output files.")] = False,
    only_open: Annotated[bool, typer.Option("--open", help="Only open ports.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Every row: nothing folded, summed or left out.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No summary and no progress.")] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Name open ports as they are found.")] = False,
    record: Annotated[Optional[str], typer.Option(metavar="FILE", help="Record what is sent and received: FILE.pcapng or .pcap, or with .gz.")] = None,  # noqa: UP045
    ladder: Annotated[Optional[str], typer.Option(metavar="[IP:PORT]", help="Draw a target's exchange; each, if there are few.")] = None,  # noqa: UP045
) -> None:
    """Half-open scan: SYN out; SYN/ACK is open, RST closed, silence filtered. Needs CAP_NET_RAW."""
    from .command import SynRequest, run_syn

    request = SynRequest(
        targets=tuple(targets or ()), target_files=tuple(targets_file or ()), ports=ports,
        exclude=tuple(exclude or ()), exclude_files=tuple(exclude_file or ()), exclude_ports=exclude_ports, all_addresses=all_addresses,
        rate=rate, retries=retries, max_missed=max_missed, timeout=timeout, seed=seed, shard=shard, interface=interface,
        source_ip=source_ip, source_port=source_port, ttl=ttl, tos=tos, options=options, form=form, output=tuple(output or ()),
        force=force, only_open=only_open, everything=everything, quiet=quiet, verbose=verbose, record=record, ladder=ladder,
    )  # fmt: skip
    raise typer.Exit(run_syn(request))


@app.command()
def classify(
    captures: Annotated[list[str], typer.Argument(help="pcap or pcapng files, gzip or plain; - for stdin. Several are one capture.")],
    timeout: Annotated[float, typer.Option(help="Seconds a probe must have waited to be called filtered; 0: any.")] = 1.0,
    orphans: Annotated[bool, typer.Option(help="Also rows for replies whose probe was not captured.")] = False,
    scanner: Annotated[Optional[list[str]], typer.Option(help="Only this scanner's probes.")] = None,  # noqa: UP045
    target: Annotated[Optional[list[str]], typer.Option(help="Only these targets.")] = None,  # noqa: UP045
    ports: Annotated[Optional[str], typer.Option("-p", "--ports", help="Only these ports.")] = None,  # noqa: UP045
    ladder: Annotated[Optional[str], typer.Option(metavar="[IP:PORT]", help="Draw a target's exchange; each, if there are few.")] = None,  # noqa: UP045
    form: Annotated[Optional[str], typer.Option("-f", "--format", help="table, jsonl or csv, on stdout.")] = None,  # noqa: UP045
    output: Annotated[Optional[list[str]], typer.Option("-o", "--output", help="Also write FILE.txt, .jsonl or .csv; repeatable.")] = None,  # noqa: UP045
    force: Annotated[bool, typer.Option(help="Overwrite output files.")] = False,
    only_open: Annotated[bool, typer.Option("--open", help="Only open ports.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Every row: nothing folded, summed or left out.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No summary.")] = False,
) -> None:
    """Verdicts from recorded packets, of any scanner or client. Needs no privileges and no network."""
    from .offline import ClassifyRequest, run_classify

    request = ClassifyRequest(
        captures=tuple(captures), timeout=timeout, orphans=orphans, scanner=tuple(scanner or ()), target=tuple(target or ()), ports=ports,
        ladder=ladder, form=form, output=tuple(output or ()), force=force, only_open=only_open, everything=everything, quiet=quiet,
    )  # fmt: skip
    raise typer.Exit(run_classify(request))


@app.command()
def demo() -> None:
    """A real scan of a network in a box on this machine: every state and reason. No privileges needed."""
    from .command import run_demo

    raise typer.Exit(run_demo())


def _ladder_of_each(arguments: list[str]) -> list[str]:
    """`--ladder` may stand alone, which Typer has no word for: then it draws each target."""
    following = [*arguments[1:], ""]
    named = [after.count(":") == 1 or after.startswith("[") for after in following]
    return ["--ladder=each" if each == "--ladder" and not name else each for each, name in zip(arguments, named, strict=False)]


def main() -> None:
    """The entry point: run the verb, print errors meant for the user as one line."""
    try:
        app(args=_ladder_of_each(sys.argv[1:]))
    except ScannerError as error:
        print(f"halfopen: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        from .output import closed_pipe

        sys.exit(closed_pipe())
    except KeyboardInterrupt:
        sys.exit(130)
