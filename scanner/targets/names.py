"""Host names to addresses, through the system's resolver: a look-up happens only for a name that somebody wrote."""

import socket


def resolve(name: str) -> list[str]:
    """The addresses of a name as text, in the resolver's order, each once. Raises OSError when it has none."""
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
