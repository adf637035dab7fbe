"""What replies mean: the table of verdicts, what is remembered of each target, and how sure it is.

One reply has a `verdict`; a target's replies fold into the `ledger`; a host's say more together (`evidence`, in the
`words` that are printed); and what silence is worth is reckoned by `retry`. Pure, and the same for a live scan and a
capture.
"""
