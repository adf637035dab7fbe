"""The command line: one function for each verb.

A verb gets the options that the user gave, as a dictionary by field name. It makes its groups of options from them and
calls one function. Its docstring is the text of its --help: what it does, and examples by purpose, with addresses from
documentation blocks (RFC 5737, RFC 3849). Standard output carries the results and standard error everything else. A
verb imports what it needs itself, because `--help` must not wait for numpy or Scapy.

Exit codes: 0 done, 1 the run failed, 2 the request cannot be carried out as written, 130 interrupted by a signal (what
was learned is written), 141 the reader of standard output has left.
"""

import sys
from collections.abc import Callable
from inspect import Signature
from pathlib import Path
from typing import Annotated, Any

import typer

from ..config import TargetOptions
from ..errors import ScannerError, cause_of, need_linux, note, shortened
from . import options, privileges
from .commands import Grouped, Root, ladder_of_each, parameter, texts
from .familiar import understood
from .fleet_options import WorkerOptions
from .options import OPTIONS, Given, OutputOptions, ScanRequest, group
from .patterns import expanded
from .result_options import DiffOptions, MergeOptions, ReportOptions

_VERBS: dict[str, Callable[[Given], int]] = {}
_ON_LINUX = ("syn", "connect", "plan", "worker", "demo")  # the verbs that work nowhere else
_CommandLineError: Any = typer.BadParameter.__base__  # what click raises for options that it cannot read


def _verb(act: Callable[[Given], int]) -> Callable[[Given], int]:
    """A verb has the name of its function."""
    _VERBS[act.__name__] = act
    return act


def _register(app: typer.Typer, name: str, act: Callable[[Given], int]) -> None:
    """Make a verb a command of Typer, with the options of `OPTIONS`."""

    def command(**values: Any) -> None:
        if name in _ON_LINUX:
            need_linux(name)
        privileges.limit(name)
        # What was not given is left out, so that the group of options has the one default.
        given = {key: value for key, value in values.items() if value is not None}
        given |= {key: tuple(value) for key, value in given.items() if isinstance(value, list)}
        if given.get("list_ports"):
            from .run import print_ports

            raise typer.Exit(print_ports(group(TargetOptions, given)))
        raise typer.Exit(act(understood(name, expanded(given))))

    parameters = list(map(parameter, OPTIONS[name].values()))
    command.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    app.command(name, **texts(act), cls=Grouped)(command)


def _version(wanted: bool) -> None:
    if wanted:
        from .version import version_text

        typer.echo(version_text())
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print versions, and what the kernel allows."),
    ] = False,
) -> None:
    """Half-open TCP scans whose answers can be trusted, and verdicts from anyone's capture.

    Examples:
      halfopen demo                                  a scan of a lab on this machine
      halfopen plan 192.0.2.0/24 -p 22,80            what a scan would send
      sudo halfopen syn 192.0.2.0/24 -p 22,80        the scan
      halfopen connect 192.0.2.7 --top-ports 100     without privileges
      halfopen classify capture.pcapng               verdicts from recorded packets
      halfopen who capture.pcapng                    who probed whom there, with which tool
    """


@_verb
def syn(given: Given) -> int:
    """Half-open scan: SYN out; SYN/ACK is open, RST closed, silence filtered. Needs CAP_NET_RAW.

    Targets and ports:
      halfopen syn 192.0.2.7 2001:db8::/120 -p 22,80,8000-8100,http
      halfopen syn -iL targets.txt --exclude-file never.txt --top-ports 100

    Results:
      halfopen syn 192.0.2.0/24 --open -o scan.jsonl.gz -oX scan.xml
      halfopen syn 192.0.2.0/24 -p 443 -f jsonl
      halfopen syn 192.0.2.0/24 -p 80,443 -q -f list | httpx
      halfopen syn 192.0.2.0/24 --then 'nmap -sV -Pn -p {ports} {ip} -oX {ip}.xml'

    Speed and certainty:
      halfopen syn 192.0.2.0/24 -p- --rate 50000
      halfopen syn 192.0.2.0/24 --max-missed 1% --retries 20
      halfopen syn 192.0.2.0/24 --seed 7 --shard 1/4

    Looking closer:
      halfopen syn 192.0.2.7 -p 22 --ladder
      halfopen syn 192.0.2.7 --record scan.pcapng --verify
    """
    from .scans import run_scan

    return run_scan(ScanRequest("syn", given))


@_verb
def connect(given: Given) -> int:
    """Full three-way handshake through the system's own sockets. Needs no privileges.

    Examples:
      halfopen connect 192.0.2.7 -p 1-1024
      halfopen connect 192.0.2.0/24 --top-ports 20 --open -oG scan.gnmap
    """
    from .scans import run_scan

    return run_scan(ScanRequest("connect", given))


@_verb
def plan(given: Given) -> int:
    """What `syn` would send: targets, packets, time, routes, what is left out. Sends nothing, needs no privileges.

    Examples:
      halfopen plan 192.0.2.0/24 -p 22,80 --rate 1000
      halfopen plan 192.0.2.0/24 -p 22,80 --seed 7     the targets that `syn --seed 7` probes first
      halfopen plan -p http* --list-ports              what a port list means
    """
    from .plan import run_plan

    return run_plan(ScanRequest("plan", given))


@_verb
def classify(given: Given) -> int:
    """Verdicts from recorded packets, of any scanner or client. Needs no privileges and no network.

    Examples:
      halfopen classify scan.pcap --open -f jsonl
      halfopen classify rotated-*.pcap.gz -oX scan.xml
      halfopen classify --each captures/ -o all.jsonl.gz
    """
    from .classify import run_classify

    return run_classify(group(options.ClassifyOptions, given), group(OutputOptions, given))


@_verb
def who(given: Given) -> int:
    """Who probed whom in recorded packets, and which tool the probes show. Needs no privileges and no network.

    Examples:
      halfopen who capture.pcap
      halfopen who rotated-*.pcap.gz --min-targets 20 -f jsonl
      tcpdump -r capture.pcap -w - tcp or icmp | halfopen who -
    """
    from .who import run_who

    return run_who(group(options.WhoOptions, given))


@_verb
def worker(given: Given) -> int:
    """Scan for others: take pieces of their scans from a NATS server, within the limits of this machine's owner.

    Examples:
      sudo halfopen worker tls://fleet.example:4222 --tls-ca ca.pem --tag berlin
    """
    from .fleet import run_worker

    return run_worker(group(WorkerOptions, given))


@_verb
def demo(given: Given) -> int:
    """A real scan of a small network inside this machine: every state and reason. No privileges needed."""
    from ..lab.permissions import reenter

    code = reenter(["demo"])  # of this program in a user namespace, if the demo needs one
    if code is not None:
        return code
    from ..lab.demo import demonstrate

    return demonstrate(note)


@_verb
def report(given: Given) -> int:
    """Results as one HTML page that opens offline: open ports, findings, map, and a table. Needs jinja2.

    Examples:
      halfopen report scan.xml -o scan.html
      halfopen report tuesday.jsonl --stats tuesday.json --since monday.jsonl -o tuesday.html
      halfopen report shard-*.jsonl -o scan.html --title 'Office network, May'
      nmap -oX - 192.0.2.7 | halfopen report - -o scan.html
    """
    from ..page import run_report
    from ..results.memory import at_most
    from .progress import reading

    chosen = vars(group(ReportOptions, given))
    with at_most(chosen.pop("max_memory")):
        return run_report(**chosen, showing=lambda: reading(chosen["quiet"]))


@_verb
def diff(given: Given) -> int:
    """What changed between two results: newly open first. Exit code 0: nothing, 1: something, 2: an error.

    Examples:
      halfopen diff monday.jsonl tuesday.jsonl --fail-on opened,reachable
      halfopen diff nmap.xml scan.pcapng --open -f jsonl
    """
    from .diff import run_diff

    return run_diff(group(DiffOptions, given))


@_verb
def merge(given: Given) -> int:
    """Several results as one: of shards, of parts of a scan, of several scanners or captures. Each target once.

    Examples:
      halfopen merge shard-*.jsonl -o all.jsonl
      halfopen merge a.jsonl b.jsonl --open -f list
    """
    from .merge import run_merge

    return run_merge(group(MergeOptions, given), group(OutputOptions, given))


@_verb
def schema(given: Given) -> int:
    """The JSON Schema of the JSON lines that scans and captures give (-f jsonl).

    Examples:
      halfopen schema > verdict.schema.json
    """
    typer.echo((Path(__file__).parents[1] / "data" / "verdict.schema.json").read_bytes(), nl=False)
    return 0


def command_line(words: list[str]) -> typer.Typer:
    """The commands of Typer: only the verb that the words begin with, if they do; to prepare all takes 8 ms."""
    app = typer.Typer(
        name="halfopen",
        cls=Root,
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=True,
    )
    app.callback(**texts(_root))(_root)
    for name in words[:1] if words and words[0] in _VERBS else _VERBS:
        _register(app, name, _VERBS[name])
    return app


def main() -> None:
    """Run the verb and print errors for the user as one line. Ends in SystemExit."""
    try:
        try:
            words = ladder_of_each(sys.argv[1:])
            sys.exit(command_line(words)(args=words, standalone_mode=False))
        except SystemExit as ended:
            if isinstance(ended.__context__, BrokenPipeError):  # Typer ends with 1 then
                raise ended.__context__ from None
            raise
    except ScannerError as error:
        note(shortened(f"{error}{privileges.hint(error.__cause__)}"))
        sys.exit(error.exit_code)
    except _CommandLineError as error:
        text = error.format_message()
        if type(error).__name__ == "NoArgsIsHelpError":  # the text is the help itself
            for line in text.splitlines():
                note(line, "")
        else:
            note(shortened(text))
        sys.exit(2)
    except BrokenPipeError:
        from ..output import closed_pipe

        sys.exit(closed_pipe())
    except OSError as error:  # most often a full disk behind standard output
        text = str(error) if cause_of(error) == error.strerror else cause_of(error)
        note(shortened(text + privileges.hint(error)))
        sys.exit(1)
    except MemoryError:
        note("no memory is left: free some, or raise the limit of this process (ulimit -v)")
        sys.exit(1)
