"""A live scan, half-open (`live`, driven by `session`) or by full handshakes (`connect`).

Hosts come in stretches (`schedule`) of one route's `lane`; a `window` asks them in `passes`, as fast as `pacing` and
`timing` find right, through the one way out (`dispatch`), until enough is known; then its rows leave (`results`).
`wiring` joins all that to ports, routes and sockets; `standing` is what it takes to go on in another process.
"""
