"""The half-open scan: SYNs through packet rings, judged by what comes back. Needs CAP_NET_RAW.

`setup` joins routes, held ports, templates and transports to lanes. `scan` runs windows (`rounds`) over them:
`transmit` is the way out, `receive` the way in, `lane` knows the frames of one route, `neighbours` finds MAC addresses.
`session` gives the scan a clock, sleep and real sockets.
"""
