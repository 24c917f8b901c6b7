"""What a server keeps of a password for SCRAM (RFC 5802): it logs nobody in, and no login derives it anew."""

from __future__ import annotations

import hashlib
import hmac
from typing import Final, NamedTuple

ITERATIONS: Final = 4096


class Kept(NamedTuple):
    """The keys, for SHA-1, which every client has."""

    salt: bytes
    stored: bytes
    server: bytes


def keep(user: str, password: str) -> Kept:
    """Derive the keys. The salt is the user's, so that a broker that is prepared again has the same."""
    salt = hashlib.sha256(user.encode()).hexdigest()[:16].encode()
    salted = hashlib.pbkdf2_hmac("sha1", password.encode(), salt, ITERATIONS)
    client, server = (hmac.digest(salted, name, "sha1") for name in (b"Client Key", b"Server Key"))
    return Kept(salt, hashlib.sha1(client).digest(), server)  # noqa: S324 -- as the RFC has it
