"""Who is at the desk: a signed cookie, and a token in every form that another site cannot know."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from typing import NamedTuple

COOKIE = "selfreg_session"
DAYS = 30
SHORTEST = 16  # characters of a token


class Session(NamedTuple):
    """A person who has logged in."""

    name: str
    nonce: str
    since: int


class Sessions:
    """Signs and reads cookies; the key comes from the token of the desk, so that sessions survive a restart."""

    def __init__(self, token: str) -> None:
        self._token, self._key = token, hashlib.sha256(f"selfreg session {token}".encode()).digest()

    def matches(self, token: str) -> bool:
        """Whether `token` is that of the desk."""
        return same_secret(token, self._token)

    def start(self, name: str) -> str:
        """A cookie for a person."""
        session = Session(name, secrets.token_hex(16), int(time.time()))
        content = base64.urlsafe_b64encode(json.dumps(session).encode()).decode()
        return f"{content}.{self._sign(content)}"

    def read(self, cookie: str | None) -> Session | None:
        """The session of a cookie; None where it was not signed here, or is too old."""
        content, dot, signature = (cookie or "").rpartition(".")
        if not dot or not same_secret(signature, self._sign(content)):
            return None
        session = Session(*json.loads(base64.urlsafe_b64decode(content)))
        return session if time.time() < session.since + DAYS * 86400 else None

    def form_token(self, session: Session) -> str:
        """What every form of this session holds."""
        return self._sign(f"form {session.nonce}")

    def _sign(self, text: str) -> str:
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()


def same_secret(one: str, other: str) -> bool:
    """Compare in a time that says nothing about the secret."""
    return hmac.compare_digest(one.encode("utf-8", "surrogateescape"), other.encode("utf-8", "surrogateescape"))


def check_token(token: str, name: str) -> str:
    """`token`, where it is long enough."""
    if len(token) < SHORTEST or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError(f"{name} is too short or has odd characters; expected {SHORTEST} printable ASCII ones or more")
    return token
