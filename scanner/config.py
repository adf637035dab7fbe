"""What was asked for, checked.

The command line and the Python interface both end here: plain data, frozen, with every rule that
crosses options checked once, when it is made. Nothing later asks whether two options fit together.
"""

import os
from dataclasses import dataclass

from .errors import UsageError
from .packet.cookie import Key
from .packet.probe import TOS_LOWER_EFFORT
from .packet.template import OPTION_SETS
from .targets.hostspace import WHOLE, Shard
from .verdict.loss import MAX_PASSES

PUBLIC_RATE = 10_000.0  # where "auto" ends towards public addresses, unless told otherwise
MAX_RATE = 1e9  # beyond any wire; and what is no number stops here too
MAX_SENDERS = 8
SEED_BITS = 127


def key_of(config: "SynConfig") -> Key:
    """The key of order and cookies: from the seed, or a new one."""
    return Key.from_bytes(os.urandom(16) if config.seed is None else config.seed.to_bytes(16, "little", signed=True))


@dataclass(frozen=True)
class SynConfig:
    """How a half-open scan is to be done. Rates in frames per second (0: unlimited), times in seconds."""

    rate: float | None = None  # None: found while scanning ("auto")
    max_rate: float | None = None  # where "auto" ends
    retries: int = 10
    max_missed: float = 0.01
    max_missed_share: float | None = None  # instead of a number: of the responders found
    timeout: float | None = None
    seed: int | None = None
    shard: Shard = WHOLE
    interface: str | None = None
    source_ip: str | None = None
    source_port: int | None = None
    ttl: int = 64
    tos: int = TOS_LOWER_EFFORT
    options: str = "os"
    senders: int = 1  # transmit rings, each with a thread of its own

    def __post_init__(self) -> None:
        rate, shard, most = self.rate, self.shard, f"{MAX_RATE:,.0f}"
        limits = (
            (rate is None or 0 <= rate <= MAX_RATE, f"--rate {rate} is out of range: 0 (unlimited) to {most}"),
            (rate is None or self.max_rate is None, f"--max-rate bounds --rate auto; with --rate {rate} leave it out"),
            (
                self.max_rate is None or 1 <= self.max_rate <= MAX_RATE,
                f"--max-rate {self.max_rate} is out of range: 1 to {most}",
            ),
            (0 <= self.retries < MAX_PASSES, f"--retries {self.retries} is out of range: 0 to {MAX_PASSES - 1}"),
            (self.max_missed > 0, f"--max-missed {self.max_missed:g} must be above 0"),
            (self.max_missed_share is None or self.max_missed_share > 0, "--max-missed: a percentage must be above 0"),
            (self.timeout is None or self.timeout > 0, f"--timeout {self.timeout} must be above 0 seconds"),
            (1 <= self.ttl <= 255, f"--ttl {self.ttl} is out of range: 1 to 255"),
            (0 <= self.tos <= 255, f"--tos {self.tos} is out of range: 0 to 255"),
            (
                self.tos & 3 == 0,
                f"--tos {self.tos} sets ECN bits (RFC 3168), that routers rewrite; use a multiple of 4",
            ),
            (self.options in OPTION_SETS, f"--options {self.options!r} is not one of {', '.join(OPTION_SETS)}"),
            (1 <= shard.number <= shard.of, f"--shard {shard.number}/{shard.of}: give i/n with 1 <= i <= n"),
            (shard.of == 1 or self.seed is not None, "--shard needs --seed: all shards must share one order"),
            (1 <= self.senders <= MAX_SENDERS, f"--senders {self.senders} is out of range: 1 to {MAX_SENDERS}"),
            (
                self.seed is None or abs(self.seed) < 1 << SEED_BITS,
                f"--seed {self.seed} is too large: below 2^{SEED_BITS}",
            ),
            (
                self.source_port is None or 1 <= self.source_port <= 65535,
                f"--source-port {self.source_port} is not a port",
            ),
        )
        for holds, message in limits:
            if not holds:
                raise UsageError(message)

    @property
    def passes(self) -> int:
        """The most passes over a silent target."""
        return self.retries + 1
