"""What replies mean: the decision table, what is known of each target, and how sure it is.

`table` judges one reply, `ledger` folds the replies of a target, `evidence` compares the replies of a host, `sentences`
has the words, `loss` says what silence is worth, and `rows` writes verdicts. Pure, and the same for a live scan and a
capture.
"""
