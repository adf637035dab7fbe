"""Settings for every test run; helpers live in plain modules beside (`builders`, `simulation`, `lab`).

Hypothesis draws the same examples in every run, so a run does not fail by chance, and it measures no time, because
tests run in parallel on machines of any speed. `--hypothesis-profile=random` searches for new examples.

Under sudo the program would become the user who called it, who may not write the folders of root's tests. So tests that
want this set the variables of sudo themselves.

A shell lets its background jobs ignore Ctrl-C, and programs inherit that. Tests of Ctrl-C need a program that hears it.
"""

import os
import signal

from hypothesis import HealthCheck, settings

settings.register_profile("repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("random", deadline=None, max_examples=1000)
settings.load_profile("repeatable")

for name in ("SUDO_UID", "SUDO_GID"):
    os.environ.pop(name, None)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
