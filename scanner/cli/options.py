"""Options that several verbs share, each written once.

The verbs of `cli` are lists of these; what an option is called, what it takes and the line of help that it gets are
decided here, so `syn`, `connect` and `plan` cannot drift apart. No option is read here, and nothing is checked:
that is `config`'s and the requests' business. Typer reads the annotations at run time, on Python 3.10 too.
"""

from typing import Annotated, Optional

import typer

Strings = Optional[list[str]]  # noqa: UP045 (Typer reads these at run time, on Python 3.10 too)
Text = Optional[str]  # noqa: UP045
Number = Optional[float]  # noqa: UP045
Whole = Optional[int]  # noqa: UP045

Targets = Annotated[
    Strings, typer.Argument(help="Addresses, CIDR, ranges (192.0.2.1-20), octet ranges (10.0-3.*.1), names.")
]
Ports = Annotated[Text, typer.Option("-p", "--ports", help="22,80,8000-8100,http; - for 1-65535 (default: 1-1024).")]
TopPorts = Annotated[
    Whole, typer.Option(metavar="N", help="The N ports most often open, by nmap's file if it is there.")
]
ListPorts = Annotated[bool, typer.Option("--list-ports", help="Print the ports that this means, with names; no scan.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask before more than 2^20 public addresses.")]
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
Form = Annotated[Text, typer.Option("-f", "--format", help="table, jsonl, csv, xml or gnmap, on stdout.")]
Output = Annotated[
    Strings,
    typer.Option(
        "-o", "--output", help="Also write FILE.txt, .jsonl, .csv, .xml or .gnmap, .gz added or not; repeatable."
    ),
]
OutputXml = Annotated[Text, typer.Option("-oX", metavar="FILE", help="nmap's XML to FILE of any name; - is stdout.")]
OutputGrepable = Annotated[Text, typer.Option("-oG", metavar="FILE", help="nmap's grepable form to FILE, or -.")]
OutputNormal = Annotated[Text, typer.Option("-oN", metavar="FILE", help="The table to FILE, or -.")]
OutputAll = Annotated[Text, typer.Option("-oA", metavar="BASE", help="BASE.xml, BASE.gnmap and BASE.nmap at once.")]
Resume = Annotated[
    Text,
    typer.Option(metavar="STATE", help="Keep where the scan stands in this file; where it is there, go on from it."),
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite output files.")]
OnlyOpen = Annotated[bool, typer.Option("--open", help="Only open ports.")]
Everything = Annotated[bool, typer.Option("--all", help="Every row: nothing folded, summed or left out.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="No summary and no progress.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Name open ports as they are found.")]
ProgressForm = Annotated[
    str, typer.Option("--progress", help="auto: a line on a terminal; json: a line a second on stderr; none.")
]
Options = Annotated[str, typer.Option(help="TCP options of a probe: os, mss or none.")]
Stats = Annotated[Text, typer.Option(metavar="FILE", help="Write the sums of the summary as JSON.")]
Senders = Annotated[int, typer.Option(help="Transmit rings with a thread each; 2 for more than a million a second.")]
PacketTrace = Annotated[bool, typer.Option("--packet-trace", help="Print every frame, as Scapy sums it up, on stderr.")]
Ladder = Annotated[Text, typer.Option(metavar="[IP:PORT]", help="Draw a target's exchange; each, if there are few.")]
