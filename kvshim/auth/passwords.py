"""Password hashes, by bcrypt as in etcd. Slow on purpose: never on the event loop.

The library is loaded when the first password comes: a node without users does not pay for it.
"""

from __future__ import annotations

from typing import Final

from kvshim.errors import PasswordTooLong

COST_MIN: Final = 4
COST_MAX: Final = 31
COST_DEFAULT: Final = 10

PASSWORD_BYTES_MAX: Final = 72
"""bcrypt looks at no more."""


def hash_password(password: bytes, cost: int) -> bytes:
    """A salted hash in the form that etcd stores. Takes 50 ms at the default cost."""
    import bcrypt

    if len(password) > PASSWORD_BYTES_MAX:
        raise PasswordTooLong
    return bcrypt.hashpw(password, bcrypt.gensalt(cost, prefix=b"2a"))


def password_matches(password: bytes, hashed: bytes) -> bool:
    """Whether the hash was made from that password; of a long one its beginning counts."""
    import bcrypt

    try:
        return bcrypt.checkpw(password[:PASSWORD_BYTES_MAX], hashed)
    except ValueError:
        return False  # no hash: such as a password that was changed to nothing
