"""Verdicts from captures: find the probes in them, match replies to probes, judge as a live scan does.

From the bottom: `keys` gives targets and flows their numbers, `forgotten` and `flows` are what is remembered of each
flow, `sums` adds up what the flows of a target show together, `judge` turns flows into verdicts, `rows` writes these as
rows, `classification` is the way from files to rows.
"""
