"""How fast, how flat, how right: measurements beside the peers, in one run, on one machine.

`make bench` (`python -m tests.bench`) builds networks in a box, lets halfopen and whichever of nmap, masscan
and ZMap are installed do the same work there in turns, and prints medians, their spread and the ratio
ours / theirs. Rates are counted by the receiving end of the wire, never taken from a tool's own words; whole scans
are scored against what the box was built as, so that a fast wrong answer shows. `bench.json` keeps every value.

A benchmark decides nothing: no test depends on one, and no figure here is a threshold. Limit: both ends of the
wire share the machine's cores, so a rate is that of sender plus receiving kernel, the same for all contenders.
"""
