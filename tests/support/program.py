"""Which kvshim the tests and measurements start: the checkout's, or the one that is named.

`make conformance` and `make bench` name the compiled one (docs/adr/0020-compiled.md).
"""

import os
import sys
from pathlib import Path

KVSHIM = Path(os.environ.get("KVSHIM_PROGRAM") or Path(sys.prefix) / "bin" / "kvshim").absolute()
if not KVSHIM.is_file():
    raise SystemExit(f"there is no {KVSHIM}: `make setup` makes .venv, `make wheel` build/compiled")
