"""Where which message goes on the server, and what a worker must be permitted to do there.

A work queue holds the pieces and a second one the results. Both have one consumer for each scan, named like the scan.
The object store holds the jobs. Offers and beats are plain messages: who is not there misses nothing.

A worker needs very little: to hear offers, to take pieces, to publish results, to ask for a lease, and to read jobs.
`permissions` writes this as part of a server's configuration. A worker with these rights can neither queue pieces nor
read results, nor remove anything. (Limit: it hears what is sent to the inboxes of other workers.)
"""

import json

PIECES, ROWS, BUCKET = "HALFOPEN_PIECES", "HALFOPEN_ROWS", "halfopen-jobs"
ANY = "any"  # the tag of offers to every worker
_JOBS = f"OBJ_{BUCKET}"


def offer(tag: str) -> str:
    """Offers to the workers with a tag."""
    return f"halfopen.offer.{tag}"


def beat(scan: str) -> str:
    """Beats of the workers of a scan, to its collector."""
    return f"halfopen.beat.{scan}"


def piece(scan: str) -> str:
    """The pieces of a scan."""
    return f"halfopen.piece.{scan}"


def rows(scan: str) -> str:
    """The results of a scan."""
    return f"halfopen.rows.{scan}"


def permissions(tags: tuple[str, ...]) -> str:
    """The permissions of a worker with these tags, as nats-server's configuration writes them."""
    publish = [
        "halfopen.beat.*", "halfopen.rows.*", f"$JS.API.CONSUMER.MSG.NEXT.{PIECES}.*", f"$JS.ACK.{PIECES}.>",
        f"$JS.API.STREAM.INFO.{_JOBS}", f"$JS.API.STREAM.MSG.GET.{_JOBS}", f"$JS.API.DIRECT.GET.{_JOBS}.>",
        "$JS.API.STREAM.NAMES", f"$JS.API.CONSUMER.CREATE.{_JOBS}.>", f"$JS.API.CONSUMER.CREATE.{_JOBS}",
        f"$JS.API.CONSUMER.DELETE.{_JOBS}.>", f"$JS.API.CONSUMER.INFO.{_JOBS}.>", f"$JS.FC.{_JOBS}.>",
    ]  # fmt: skip
    subscribe = [*map(offer, (ANY, *tags)), "_INBOX.>"]
    lines = [
        "permissions: {",
        f"  publish: {{ allow: {json.dumps(publish)} }}",
        f"  subscribe: {{ allow: {json.dumps(subscribe)} }}",
        "}",
    ]
    return "\n".join(lines) + "\n"
