"""The command line: options, verbs, plan, progress, and the state file of a scan that can be resumed.

`entry` starts the process, `options` says which verb has which options, `verbs` has one function for each verb, and
`run`, `classify` and `plan` do the work.
"""
