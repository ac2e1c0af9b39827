"""Ids of requests, which join what the log, the answer and other services say of one."""

import random
import re

_SANE = re.compile(rb"[A-Za-z0-9._:=/+-]{1,128}")


def request_id(given: bytes) -> bytes:
    """Return the id that the client gave, where there is one that can stand anywhere, or else a new one."""
    if given and _SANE.fullmatch(given):
        return given
    return b"%032x" % random.getrandbits(128)
