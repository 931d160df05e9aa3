"""Keeps a core from going to sleep, at idle priority: whatever else wants the core gets it at once.

With a single call in flight a core sleeps between two steps of it, and waking one in a virtual machine takes longer than the step.
Which steps pay that depends on where the scheduler put them, so that the same program measured twice differs by half. Its own
process, one a core; it ends when its starter does.
"""

import os
import sys

LOOPS_BETWEEN_LOOKS = 1_000_000


def main() -> int:
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    starter = os.getppid()
    sys.stdout.write("awake\n")
    sys.stdout.flush()
    while os.getppid() == starter:
        for _ in range(LOOPS_BETWEEN_LOOKS):
            pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
