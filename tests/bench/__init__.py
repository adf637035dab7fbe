"""Measurements of speed, memory and correctness, with other scanners in the same run on the same machine.

`make bench` (`python -m tests.bench`) builds networks in a box. halfopen and those of nmap, masscan and ZMap that are
installed do the same work there in turns. It prints medians, their spread and the ratio ours / theirs. The receiving
end of the wire counts the rates; no tool's own figures are used. Whole scans are compared with the ground truth, so
a fast wrong answer is visible. `bench.json` keeps every value.

No test depends on a benchmark, and no figure here is a threshold. Limit: both ends of the wire share the machine's
cores, so a rate is that of the sender and the receiving kernel together, for all scanners alike.
"""
