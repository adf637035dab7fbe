"""Seeded fuzzing of everything that reads what others wrote.

`mutation` changes a member of the corpus, `subjects` says for each reader what it must do with the result, and
`python -m tests.fuzz` runs until a time is over. `tests/test_fuzz.py` runs a bounded number of cases of each subject.
A case is a subject and a seed, so a failure can be run again by these two.
"""
