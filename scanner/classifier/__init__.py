"""Verdicts from captures: find the probes in them, match replies to probes, judge as a live scan does.

From the bottom: `keys` gives targets and flows their numbers, `flows` is what is remembered of each flow, `judge` turns
flows into verdicts, `classification` is the way from files to rows.
"""
