"""What grpcio takes only from the environment, and only until it is imported.

Call `prepare` before anything imports grpc: it reads these variables once, at its import. This
module imports nothing of grpc, so it can be used first.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from kvshim.errors import StartupError
from kvshim.transport.tls import openssl_ciphers

CIPHERS_VARIABLE = "GRPC_SSL_CIPHER_SUITES"
VERBOSITY_VARIABLE = "GRPC_VERBOSITY"


def prepare(cipher_suites: Sequence[str]) -> None:
    """Choose the ciphers of `--cipher-suites` and keep grpc core from writing to stderr.

    Its lines (one for each failed handshake) are not structured and would break up JSON logs; an
    operator who sets GRPC_VERBOSITY still gets them. StartupError if it is too late.
    """
    os.environ.setdefault(VERBOSITY_VARIABLE, "NONE")
    ciphers = openssl_ciphers(cipher_suites)
    if not ciphers:
        return
    if "grpc" in sys.modules and os.environ.get(CIPHERS_VARIABLE) != ciphers:
        raise StartupError("--cipher-suites came too late: grpc is already loaded")
    os.environ[CIPHERS_VARIABLE] = ciphers


def check_prepared(cipher_suites: Sequence[str]) -> None:
    """Raise StartupError unless these suites are the ones that grpc was loaded with."""
    ciphers = openssl_ciphers(cipher_suites)
    if ciphers and os.environ.get(CIPHERS_VARIABLE) != ciphers:
        raise StartupError("--cipher-suites came too late: grpc is already loaded")
