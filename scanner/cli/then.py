"""`--then COMMAND`: a program for each host with open ports, when the scan is done.

COMMAND is split into words as a shell does it, and the placeholders are filled in after that. No shell reads the
result. So what a target is called becomes neither a word of its own nor another program. A name that does not look like
a host name, such as one that begins with a hyphen or has a slash, is not used: the address stands in its place.

The programs run one after the other, in the order of the addresses, with the rights that the process has left: those of
the user, and no capability (`privileges`). They read nothing from standard input, which may have been a target list.

Limit: only ports that this process found are known, so a resumed scan cannot do this.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping
from string import Formatter

from ..errors import INTERRUPTED, UsageError, note
from ..output.hosts import address_number
from ..targets.ports import format_ports
from ..targets.zones import Zones, with_zone
from ..verdict.rows import Verdict
from ..verdict.sentences import plural
from ..verdict.table import State
from .signals import stopped_by_signals

FAILED = 1  # exit code: COMMAND did not end with 0 for every host
NAMED = 8  # hosts whose COMMAND failed
_HOST_NAME = re.compile(r"\w[\w-]*(\.[\w-]+)*\.?", re.ASCII)
_KNOWN = ("ip", "host", "ports")
_USE = "use {ip}, {host} or {ports}, and {{ or }} for a brace"
_OPEN = State.OPEN.value
# Root without sudo stays root by name, and nmap would try to open raw sockets (nmap(1), --unprivileged).
_NO_RIGHTS = {"NMAP_UNPRIVILEGED": "1"}

_Part = tuple[str, str | None]  # a text, and the placeholder behind it


class Then:
    """A COMMAND, and the open ports of each host. `noting` sees the rows of the scan."""

    def __init__(self, command: str) -> None:
        """Raises UsageError if it cannot be run."""
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise UsageError(f"--then {command!r} cannot be split into words: {error}") from error
        if not words:
            raise UsageError("--then is empty: name a program and its arguments")
        self._program, *self._arguments = (_parts(word) for word in words)
        if any(field for _, field in self._program):
            raise UsageError(f"--then {words[0]!r}: a placeholder cannot name the program, only an argument")
        self._name = _filled(self._program, {})
        if shutil.which(self._name) is None:
            raise UsageError(f"--then: there is no program {self._name!r} to run: install it, or give its path")
        self._ports: dict[str, array[int]] = {}
        self._names: dict[str, str] = {}  # by address
        self._child: subprocess.Popen[bytes] | None = None
        self._stops = 0

    def noting(self, rows: Iterable[Verdict]) -> Iterator[Verdict]:
        """The same rows; open ports are remembered."""
        for row in rows:
            if row.state == _OPEN:
                self._ports.setdefault(row.ip, array("H")).append(row.port or 0)
                if row.hostname:
                    self._names[row.ip] = row.hostname
            yield row

    def arguments(self, ip: str, zones: Zones = ()) -> list[str]:
        """The words of the call for a host. `zones`: the links of link-local addresses."""
        name, address = _ascii(self._names.get(ip, "")), with_zone(ip, zones)
        host = name if _HOST_NAME.fullmatch(name) else address
        values = {"ip": address, "host": host, "ports": format_ports(self._ports[ip])}
        return [self._name, *(_filled(argument, values) for argument in self._arguments)]

    def run(self, *, for_people: bool, quiet: bool, zones: Zones = ()) -> int:
        """Run COMMAND for each host. Returns 0, FAILED, or INTERRUPTED.

        `for_people`: its standard output is ours. Otherwise it goes to standard error, because a program reads ours.
        """
        hosts = sorted(self._ports, key=address_number)
        ended: dict[str, list[str]] = {}
        sys.stdout.flush()
        with stopped_by_signals(self._stop, lambda: self._stops > 0):
            for number, ip in enumerate(hosts, 1):
                words = self.arguments(ip, zones)
                if not quiet:
                    note(f"({number} of {len(hosts)}) {shlex.join(words)}")
                how = self._run(words, for_people)
                ended.setdefault(how, []).append(ip)
                if self._stops:
                    break
        failed = set(ended) - {_said(0)}
        if failed or self._stops or not quiet:
            note(self._report(ended, len(hosts)))
        return INTERRUPTED if self._stops else FAILED if failed else 0

    def not_run(self) -> None:
        """Say that the scan is not complete, so that COMMAND is not run."""
        note(f"--then {self._name} is not run, because the scan is not complete")

    def _stop(self) -> None:
        self._stops += 1
        if self._child:
            (self._child.terminate if self._stops == 1 else self._child.kill)()

    def _run(self, words: list[str], for_people: bool) -> str:
        """Run one call to its end, and say how it ended."""
        try:
            self._child = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=None if for_people else 2, env={**os.environ, **_NO_RIGHTS}
            )
        except OSError as error:
            return f"not started ({error.strerror})"
        if self._stops:  # a signal came before there was a child
            self._child.terminate()
        try:
            return _said(self._child.wait())
        finally:
            self._child = None

    def _report(self, ended: dict[str, list[str]], hosts: int) -> str:
        ran = sum(map(len, ended.values()))
        whole = plural(hosts, "host") if ran == hosts else f"{ran} of {plural(hosts, 'host')}"
        parts = [
            f"{len(ips)} {how}" + ("" if how == _said(0) else f": {', '.join(ips[:NAMED])}{' …' * (len(ips) > NAMED)}")
            for how, ips in sorted(ended.items())
        ]
        interrupted = "interrupted: " if self._stops else ""
        return f"{interrupted}--then {self._name}, {whole} with open ports" + "".join(f"; {part}" for part in parts)


def _parts(word: str) -> list[_Part]:
    """A word as texts and placeholders. Raises UsageError."""
    try:
        parts = list(Formatter().parse(word))
    except ValueError as error:
        raise UsageError(f"--then {word!r}: {error}: {_USE}") from error
    for _, field, form, conversion in parts:
        if field is not None and (field not in _KNOWN or form or conversion):
            raise UsageError(f"--then {word!r}: this placeholder is not known: {_USE}")
    return [(text, field) for text, field, _, _ in parts]


def _ascii(name: str) -> str:
    """`bücher.example` as programs look it up: `xn--bcher-kva.example`; "" for what is no domain name (RFC 3490)."""
    try:
        return name.encode("idna").decode()
    except UnicodeError:
        return ""


def _filled(parts: list[_Part], values: Mapping[str, str]) -> str:
    return "".join(text + (values[field] if field else "") for text, field in parts)


def _said(code: int) -> str:
    """How a process ended."""
    return f"ended with exit code {code}" if code >= 0 else f"ended by {signal.Signals(-code).name}"
