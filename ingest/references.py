"""Secrets by reference: where a file of settings says ``env:NAME`` or ``file:/path`` and not the secret itself."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr

MAX_SECRET = 4096  # bytes

_SECRET = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class References:
    """Where secrets are looked up; no error shows what was looked up, for it may be the secret itself."""

    environ: Mapping[str, str] = field(repr=False)
    folder: Path
    """Where a relative path begins."""

    def resolve(self, reference: str) -> SecretStr:
        """Return the secret, without white space around it; blocking.

        Raises:
            ValueError: It is no such reference, or leads to nothing that a header could carry.
        """
        scheme, _, name = reference.partition(":")
        if scheme not in ("env", "file") or not name:
            raise ValueError("must be env:NAME or file:/path; a secret itself does not belong here")
        secret = self._variable(name) if scheme == "env" else self._content(name)
        if not _SECRET.fullmatch(secret):
            raise ValueError("leads to a secret with white space or other characters that no header can carry")
        return SecretStr(secret)

    def _variable(self, name: str) -> str:
        secret = self.environ.get(name, "").strip()
        if not secret:
            raise ValueError("names an environment variable that is not set")
        return secret

    def _content(self, name: str) -> str:
        try:
            with (self.folder / name).open("rb") as file:
                content = file.read(MAX_SECRET + 1).strip()
        except OSError as error:
            raise ValueError(f"names a file that cannot be read: {error.strerror}") from None
        if not 0 < len(content) <= MAX_SECRET:
            raise ValueError("names a file that is empty, or too long for a secret")
        return content.decode("latin-1")
