"""Examples for `--help`, by what somebody wants to do.

Help that only lists options answers nobody who comes for the first time; a line that can be copied does. Each verb has
its own few, below its options. Addresses are from documentation blocks (RFC 5737, RFC 3849). A test types every one.

The lines start with a mark (`\\b`) that keeps Typer from filling them as prose.
"""


def _block(title: str, *lines: str) -> str:
    return "\n".join(["\b", f"{title}:", *(f"  {line}" for line in lines)])


def _blocks(*blocks: str) -> str:
    return "\n\n".join(blocks)


ROOT_EXAMPLES = _block(
    "Examples",
    "halfopen demo                                  a scan of a lab on this machine",
    "halfopen plan 192.0.2.0/24 -p 22,80            what a scan would send",
    "sudo halfopen syn 192.0.2.0/24 -p 22,80        the scan",
    "halfopen connect 192.0.2.7 --top-ports 100     without privileges",
    "halfopen classify capture.pcapng               verdicts from recorded packets",
)

SYN_EXAMPLES = _blocks(
    _block(
        "Targets and ports",
        "halfopen syn 192.0.2.7 2001:db8::/120 -p 22,80,8000-8100,http",
        "halfopen syn -iL targets.txt --exclude-file never.txt --top-ports 100",
    ),
    _block(
        "Results",
        "halfopen syn 192.0.2.0/24 --open -o scan.jsonl.gz -oX scan.xml",
        "halfopen syn 192.0.2.0/24 -p 443 -f jsonl",
    ),
    _block(
        "Speed and certainty",
        "halfopen syn 192.0.2.0/24 -p- --rate 50000",
        "halfopen syn 192.0.2.0/24 --max-missed 1% --retries 20",
        "halfopen syn 192.0.2.0/24 --seed 7 --shard 1/4",
    ),
    _block(
        "Looking closer",
        "halfopen syn 192.0.2.7 -p 22 --ladder",
        "halfopen syn 192.0.2.7 --record scan.pcapng --verify",
    ),
)

CONNECT_EXAMPLES = _block(
    "Examples",
    "halfopen connect 192.0.2.7 -p 1-1024",
    "halfopen connect 192.0.2.0/24 --top-ports 20 --open -oG scan.gnmap",
)

PLAN_EXAMPLES = _block(
    "Examples",
    "halfopen plan 192.0.2.0/24 -p 22,80 --rate 1000",
    "halfopen plan 192.0.2.0/24 -p 22,80 --seed 7     the first probes as `syn --seed 7` sends them",
    "halfopen plan -p http* --list-ports              what a port list means",
)

CLASSIFY_EXAMPLES = _block(
    "Examples",
    "halfopen classify scan.pcap --open -f jsonl",
    "halfopen classify rotated-*.pcap.gz -oX scan.xml",
    "halfopen classify scan.pcap --ladder 192.0.2.7:22",
)

REPORT_EXAMPLES = _block(
    "Examples",
    "halfopen report scan.jsonl.gz -o scan.html",
    "halfopen report shard-*.jsonl -o scan.html --title 'Office network, May'",
    "nmap -oX - 192.0.2.7 | halfopen report - -o scan.html",
)

DIFF_EXAMPLES = _block(
    "Examples",
    "halfopen diff monday.jsonl tuesday.jsonl",
    "halfopen diff nmap.xml scan.pcapng --open -f jsonl",
)
