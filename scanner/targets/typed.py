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
        _refuse_url(target)
        match = _WITH_PORT.fullmatch(target)
        if match and ("." in match[1] or "[" in match[1] or match[2].isdigit() or not match[2]):
            raise UsageError(f"{target}: ports go to -p; {_advice(match[1].strip('[]'), match[2])}")
    return targets


def _refuse_url(target: str) -> None:
    """Raises UsageError, with the host and port to write, for what has a scheme in front."""
    scheme, mark, _ = target.partition("://")
    if not mark:
        return
    from urllib.parse import urlsplit  # not at the top: a scan does not need it

    from .ports import services

    try:
        parts = urlsplit(target)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    if port is None:
        port = next((number for number, name in services().items() if name == scheme.lower()), None)
    raise UsageError(f"{target} is a URL; {_advice(host or 'HOST', str(port or 'PORT'))}")


def _advice(host: str, ports: str) -> str:
    return f"write {host} -p {ports}" if ports else f"write {host}"
