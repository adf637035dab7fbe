"""What people type who know other scanners: their flags, a target without a verb, a format by its other name.

A flag of nmap, masscan, ZMap, naabu or RustScan that halfopen has not gets one line that names our option. Without
this, `-oJ x.json` would be the file `J` of `-o` and a host called x.json. A command line that begins with a target gets
the line to type. Targets come from standard input if none are named and something is there to be read.

Limit: flags that mean the same here are simply options (`-p`, `-iL`, `-oX`, `-e`, `-g`, `--open`), and of the others
only the frequent ones are known.
"""

import os
import re
import stat
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from ..errors import UsageError, note
from ..targets.typed import meant_by
from .options import OPTIONS, Given

SCANS = ("syn", "connect", "plan")
JSON_LINES = "written as JSON lines, one object a line"
_CAPTURES, _RESULTS = (".pcap", ".pcapng", ".cap"), (".jsonl", ".json", ".csv", ".xml")
_NEEDLESS = "leave it out"  # how the advice on a flag begins that nothing replaces
_TARGET = re.compile(r"[\w.,*\[\]/%-]*[.:/][\S]*|[0-9][\S]*|localhost")

# Flags as regular expressions, and what to do in their place. The first one that fits counts.
FLAGS = (
    ("-sS", "leave it out, because the verb syn is this scan"),
    ("-sT", "leave it out and use the verb connect"),
    ("-sL|--dry-?run|-d(?:ry)?run", "use the verb plan"),
    ("-s[nP]", "no pings are sent; name a port with -p, and every answer shows a host"),
    ("-s[VC]|-A|-O|--script.*|--banners|-nmap-cli", "use --then to hand the open ports to nmap"),
    ("-s[A-Z]", "TCP only, by the verbs syn and connect"),
    ("-P[a-zA-Z0].*|-skip-host-discovery", "leave it out, because every target is probed without a ping before"),
    ("-n|-R|-randomize-hosts|--randomize-hosts", "leave it out, because every scan works so here"),
    ("-T[0-9a-z]*", "use --rate with frames per second, or with auto (the default)"),
    ("--min-rate|--min-parallelism|--batch-size|-B|--bandwidth|-r", "use --rate"),
    ("-F", "use --top-ports 100"),
    ("-tp", "use --top-ports"),
    ("--max-retries|--tries|-P", "use --retries"),
    ("-oJ|-oD", "use -o FILE.jsonl (JSON lines), or -f jsonl for standard output"),
    ("-oL|-oB", "use -f list, or -o FILE.list (host:port a line), or -oG FILE"),
    ("-oS", "use -oN FILE"),
    ("-oC|-csv", "use -f csv, or -o FILE.csv"),
    ("-json|-j|-J|--json", "use -f jsonl (JSON lines)"),
    ("-silent|--silent|--greppable", "use -q, and -f list for host:port alone"),
    ("-host|--host|-a|--addresses|--range", "write the targets without an option"),
    ("-l|-list|-I|--list-of-ips-file|-w", "use -iL FILE"),
    ("--excludefile|-ef|-b|--blocklist-file", "use --exclude-file FILE"),
    ("-eh|-exclude-hosts", "use --exclude"),
    ("-ep", "use --exclude-ports"),
    ("-S|--adapter-ip", "use --source-ip"),
    ("-i|--adapter", "use -e"),
    ("--reason", "leave it out, because every row has its reason"),
    ("-c|--scan-delay|--max-scan-delay|--delay", "use --rate"),
    ("--wait|--host-timeout|--(?:max-|min-|initial-)rtt-timeout", "use --timeout with seconds"),
)  # fmt: skip


def check_flags(verb: str, words: Sequence[str], parameters: Iterable[Any]) -> None:
    """Raise UsageError for the first flag of another scanner, and for `-rate` where `--rate` is meant."""
    own = {name: parameter for parameter in parameters for name in parameter.opts}
    rest = iter(words)
    for word in rest:
        if word == "--":
            return
        flag, attached, _ = word.partition("=")
        if flag in own:
            if not attached and not getattr(own[flag], "is_flag", False):
                next(rest, None)  # its value
        elif len(flag) > 1 and flag.startswith("-") and (advice := _advice(verb, flag, own)):
            raise UsageError(f"{flag}: {advice}")


def _advice(verb: str, flag: str, own: Iterable[str]) -> str | None:
    """What to write in place of a flag that the verb has not."""
    if len(flag) > 2 and f"-{flag}" in own:
        return f"use -{flag}"
    if verb not in SCANS:
        return None
    return next((advice for pattern, advice in FLAGS if re.fullmatch(pattern, flag)), None)


def check_verb(words: Sequence[str], verbs: Iterable[str], own: Iterable[str]) -> None:
    """Raise UsageError, with the command to type, for a command line that begins with a target or a scan's option."""
    first = words[0] if words else ""
    flag = first.partition("=")[0]
    if not first or first in verbs or flag in own:
        return
    options = {name for option in OPTIONS["syn"].values() for name in option.names}
    is_option = first.startswith("-") and (
        flag in options or flag[:2] in options or bool(_advice("syn", flag, options))
    )
    import shlex

    suffixed = first.lower().removesuffix(".gz")
    if suffixed.endswith(_CAPTURES):
        raise UsageError(f"name the verb first: {shlex.join(['halfopen', 'classify', *words])}")
    if suffixed.endswith(_RESULTS):
        raise UsageError(f"name the verb first: {shlex.join(['halfopen', 'report', *words, '-o', 'page.html'])}")
    if not is_option and (not _TARGET.fullmatch(first) or os.path.isfile(first)):
        return
    told = {word: _advice("syn", word, options) or "" for word in words if word.startswith("-") and word not in options}
    rest = [*meant_by(first).split(), *words[1:]] if meant_by(first) else words
    rest = [word for word in rest if not told.get(word, "").startswith(_NEEDLESS)]
    lines = [shlex.join(["halfopen", verb, *rest]) for verb in ("syn", "connect")]
    both = lines[1] if "-sT" in words else f"{lines[0]} (or, without root, {lines[1]})"
    more = "".join(f"; {word}: {told[word]}" for word in rest if told.get(word))
    raise UsageError(f"name the verb first: {both}{more}")


def understood(verb: str, given: Given) -> Given:
    """What the user gave, with the formats by our names, and targets from standard input if no option names them."""
    quiet = given.get("quiet")
    named = [path for path in given.get("output", ()) if path.lower().removesuffix(".gz").endswith(".json")]
    if given.get("form") == "json":
        given = {**given, "form": "jsonl"}
        named.append("-f json")
    if named and verb != "report" and not quiet:
        note(f"{named[-1]}: {JSON_LINES}")
    if verb in SCANS and not any(given.get(name) for name in ("targets", "targets_file", "again")) and _has_input():
        given = {**given, "targets_file": ("-",)}
        if not quiet:
            note("reading targets from stdin")
    return given


def _has_input() -> bool:
    """Whether standard input is a pipe or a regular file."""
    with suppress(OSError, ValueError, AttributeError):
        mode = os.fstat(sys.stdin.fileno()).st_mode
        return stat.S_ISFIFO(mode) or stat.S_ISREG(mode)
    return False
