"""Times as users write them, and the part of a capture that lies between two of them.

A moment is a date with or without a time of day (UTC unless an offset is given), or seconds since 1970. Digits alone
are seconds, also in a duration. A period holds its beginning and not its end, so two periods that touch share no
packet.

A packet without a time stamp may belong to any time. So it is left out of every period, and counted apart.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import numpy as np

from ..errors import UsageError
from ..packet.headers import Frames
from ..verdict.sentences import plural
from .source import NO_TIME

EVER = (1 << 63) - 1  # ns; later than any packet
LONGEST = 10**18  # ns, 31 years; sums of times and a duration must fit 64 bits
_SECOND = 10**9
_MOMENT = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?)?\s*(?:Z|UTC|([+-])([01]\d|2[0-3]):?(\d\d))?",
    re.IGNORECASE | re.ASCII,
)
_DURATION = re.compile(r"(\d{1,10}(?:\.\d{1,9})?)\s*([smhd]?)", re.ASCII | re.IGNORECASE)
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_EPOCH = re.compile(r"\d{1,10}(?:\.\d{1,9})?", re.ASCII)


def moment(flag: str, text: str) -> int:
    """`2026-11-22T10:00:00Z`, `2026-11-22 10:00`, `2026-11-22` or `1795341600.5` → ns since 1970. Raises UsageError."""
    text = text.strip()
    if _EPOCH.fullmatch(text):
        return int(Decimal(text) * _SECOND)
    if found := _MOMENT.fullmatch(text):
        day, clock, second, fraction, sign, hours, minutes = found.groups()
        try:
            when = datetime.fromisoformat(f"{day}T{clock or '00:00'}:{second or '00'}+00:00")
            shift = timedelta(hours=int(hours or 0), minutes=int(minutes or 0)) * (-1 if sign == "-" else 1)
            since = when - shift - datetime(1970, 1, 1, tzinfo=timezone.utc)
        except (ValueError, OverflowError):  # the 31st of February
            since = timedelta(-1)
        if since >= timedelta(0):
            return (since.days * 86400 + since.seconds) * _SECOND + int((fraction or "0").ljust(9, "0"))
    raise UsageError(
        f"{flag} {text!r} is not a time such as 2026-11-22T10:00:00Z, '2026-11-22 10:00' (UTC) or 1795341600 (seconds)"
    )


def duration(flag: str, text: str) -> int:
    """`90s`, `1.5h`, `2d`, or a number of seconds → ns, above 0. Raises UsageError."""
    found = _DURATION.fullmatch(text.strip())
    length = int(Decimal(found[1]) * _SECOND * _UNITS[found[2].lower()]) if found else 0
    if not 0 < length <= LONGEST:
        raise UsageError(f"{flag} {text!r} is not a duration such as 90s, 30m, 1h or 2d")
    return length


@dataclass
class Period:
    """The packets from `since` on and before `until` (ns). `outside` and `untimed` count those that `take` drops."""

    since: int = NO_TIME
    until: int = EVER
    outside: int = 0
    untimed: int = 0

    @classmethod
    def of(cls, since: str | None, until: str | None) -> "Period":
        """From texts. Raises UsageError."""
        period = cls(
            NO_TIME if since is None else moment("--since", since), EVER if until is None else moment("--until", until)
        )
        if period.since >= period.until:
            raise UsageError(f"--since {since} is not before --until {until}: no packet is between them")
        return period

    @property
    def is_all(self) -> bool:
        """Whether every packet is in it."""
        return self.since == NO_TIME and self.until == EVER

    def take(self, frames: Frames) -> Frames:
        """The frames of a batch that are in the period."""
        if self.is_all:
            return frames
        untimed = frames.time == NO_TIME
        inside = ~untimed & (frames.time >= self.since) & (frames.time < self.until)
        self.untimed += int(np.count_nonzero(untimed))
        self.outside += int(np.count_nonzero(~inside & ~untimed))
        return frames if inside.all() else frames.take(inside)

    def lines(self) -> list[str]:
        """What was left out, in words."""
        counts = (
            (self.outside, "outside --since/--until"),
            (self.untimed, "without a time stamp, so outside --since/--until"),
        )
        return [f"{plural(count, 'packet')} {text}" for count, text in counts if count]
