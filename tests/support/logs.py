"""What a server's log must not hold."""

from pathlib import Path

TRACEBACK = b"Traceback (most recent call last)"
EXCERPT_BYTES = 4000


def require_no_traceback(log: Path) -> None:
    """Operators are told in sentences. Raises AssertionError with what stands there."""
    text = log.read_bytes() if log.exists() else b""
    at = text.find(TRACEBACK)
    if at >= 0:
        excerpt = text[max(0, at - 500) : at + EXCERPT_BYTES].decode(errors="replace")
        raise AssertionError(f"a traceback in {log.name}:\n{excerpt}")
