"""Whom a client of TLS trusts."""

import asyncio
import shutil
import ssl
from pathlib import Path

import certifi
import pytest

from storage.authorities import Authorities


async def test_the_public_authorities_are_trusted_unless_others_are_named() -> None:
    context = await Authorities().context()

    assert context.get_ca_certs() == ssl.create_default_context(cafile=certifi.where()).get_ca_certs()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


async def test_a_file_is_read_once_and_not_before_somebody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    create = ssl.create_default_context

    def create_counted(*, cafile: str) -> ssl.SSLContext:
        read.append(cafile)
        return create(cafile=cafile)

    monkeypatch.setattr("storage.authorities.ssl.create_default_context", create_counted)
    authorities = Authorities(certifi.where())
    assert read == []

    first, second = await asyncio.gather(authorities.context(), authorities.context())
    assert first is second
    assert read == [certifi.where()]


async def test_a_file_that_cannot_be_read_is_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "authorities.pem"
    authorities = Authorities(path)
    with pytest.raises(FileNotFoundError):
        await authorities.context()

    path.write_text("no certificate")
    with pytest.raises(ssl.SSLError):
        await authorities.context()

    shutil.copyfile(certifi.where(), path)
    assert (await authorities.context()).get_ca_certs()
