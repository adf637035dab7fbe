"""The command line: options, verbs, plan, progress and the state file of a scan that can be resumed.

`entry` starts the process, `verbs` has one function a verb, `run` executes them.
"""
