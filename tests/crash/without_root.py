"""`python -m tests.crash.without_root COMMAND...`: permissions hold for the command, root or not.

A program of its own, since a test's process must not run code between fork and exec: the threads of
its gRPC library abort the child now and then.
"""

import ctypes
import os
import sys

PR_CAPBSET_DROP = 24
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2

if __name__ == "__main__":
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
            libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    os.execv(sys.argv[1], sys.argv[1:])
