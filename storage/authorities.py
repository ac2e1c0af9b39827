"""Whom a client of TLS trusts, read when its first connection asks."""

import asyncio
import ssl
from os import PathLike

import certifi


class Authorities:
    """The certificates of a file: reading those of the public takes a twentieth of a process's start."""

    def __init__(self, path: PathLike[str] | str | None = None) -> None:
        """Take a file in PEM; None: the public authorities, as Mozilla lists them."""
        self._path = path or certifi.where()
        self._reading = asyncio.Lock()
        self._context: ssl.SSLContext | None = None

    async def context(self) -> ssl.SSLContext:
        """Return what trusts them, the same each time; read in a thread.

        Raises:
            OSError: The file cannot be read, or holds no certificates.
        """
        async with self._reading:
            if self._context is None:
                self._context = await asyncio.to_thread(ssl.create_default_context, cafile=self._path)
            return self._context
