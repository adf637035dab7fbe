"""Targets as people type them on a command line: several in one word, in brackets, with a port, or as a URL.

A comma separates two targets where a new address or name begins. Elsewhere it belongs to the octets of a pattern, so
`10.0.0.1,3,7` stays three hosts, and `10.0.0.1,10.0.0.9` is two targets. A comma at the end of a word is left out.
Brackets around an IPv6 address are left out too.

A port belongs to `-p`, because it counts for every target. So `10.0.0.1:80` and URLs are refused, and the error says
what to write.

Limit: this is for words of a command line. `lists` and `spec` read what stands in a list.
"""

import re
from collections.abc import Iterable

from ..errors import UsageError

_WHOLE = re.compile(r".*[^\W\d_].*|.*:.*|(?:[^.]*\.){3}.*", re.DOTALL)  # a letter, a colon, or four octets
_WITH_PORT = re.compile(r"(\[[^\]]*\]|[^:\[\]]+):([\w,*-]*)")
_BRACKETS = re.compile(r"\[([^\[\]]*)\]")


def separated(word: str) -> list[str]:
    """A word → its targets: `10.0.0.1,3,2001:db8::1` is `10.0.0.1,3` and `2001:db8::1`."""
    first, *parts = (word[:-1] if len(word) > 1 and word.endswith(",") else word).split(",")
    targets = [first]
    for part in parts:
        if _WHOLE.fullmatch(part) and _WHOLE.fullmatch(targets[-1]):
            targets.append(part)
        else:
            targets[-1] += f",{part}"
    return [_BRACKETS.sub(r"\1", target) if _BRACKETS.fullmatch(target) else target for target in targets]


def typed(words: Iterable[str]) -> list[str]:
    """Words of a command line → targets. Raises UsageError for URLs and targets with a port."""
    targets = [target for word in words for target in separated(word)]
    for target in targets:
        if instead := meant_by(target):
            if "://" in target:
                raise UsageError(f"{target} is a URL; write {instead}")
            raise UsageError(f"{target}: ports go to -p; write {instead} (in a list, -iL, HOST:PORTS is read)")
    return targets


def meant_by(target: str) -> str:
    """What to write for a URL or a target with a port, such as `10.0.0.1 -p 80`; "" for every other target."""
    if "://" in target:
        return _of_url(target)
    match = _WITH_PORT.fullmatch(target)
    return _with_ports(match[1].strip("[]"), match[2]) if match else ""


def _of_url(target: str) -> str:
    from urllib.parse import unquote, urlsplit  # not at the top: a scan does not need it

    from .ports import services

    scheme = target.partition("://")[0]
    try:
        parts = urlsplit(target)
        host, port = unquote(parts.hostname or ""), parts.port  # the zone of an address (RFC 6874)
    except ValueError:
        host, port = "", None
    if port is None:
        port = next((number for number, name in services().items() if name == scheme.lower()), None)
    return _with_ports(host or "HOST", str(port or "PORT"))


def _with_ports(host: str, ports: str) -> str:
    return f"{host} -p {ports}" if ports else host
