"""Verdicts from captures: the probes in them are found, replies are matched to them, and the same judge decides.

`run` is the verb, `classification` the way from files to rows, `exchanges` what is remembered of each flow (`numbering`
gives flows their numbers, `retired` keeps what old ones leave), `replay` the end of it.
"""
