"""From when to when a certificate on disk holds, read by `ssl`.

A node looks at its own each minute, and at all of them for `kvshim status`. The library
`cryptography`, which makes certificates, would cost it 12 MiB for two numbers.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from kvshim.pki.certificates import PkiError, Validity


def validity_of(file: Path) -> Validity:
    """Of the first certificate in a PEM file. Raises `PkiError`, `OSError`."""
    file.open("rb").close()  # tells a file that cannot be read from one that holds something else
    try:
        # Public only by way of a handshake, which an expired certificate would not survive.
        decoded = ssl._ssl._test_decode_cert(str(file))  # type: ignore[attr-defined]
    except ssl.SSLError:
        raise PkiError("it holds no readable certificate") from None
    begin, end = decoded["notBefore"], decoded["notAfter"]
    return Validity(ssl.cert_time_to_seconds(begin), ssl.cert_time_to_seconds(end))
