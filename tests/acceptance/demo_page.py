"""The demo as its user meets it: the command in a process of its own, and its page in a real browser."""

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Locator, Page, async_playwright, expect

from tests.running import environment, process, until

FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
MESSAGES = 10
PHOTOGRAPHS = 5
STICKERS = 2
STARTED = 120.0  # seconds that the demo may take until its page can be opened: a machine may have other work too
PROCESSED = 120.0  # seconds that its samples may take to be processed
LOADED = 60.0  # seconds that what is stored may take to be shown
NOWHERE = "postgresql://gateway:secret@127.0.0.1:1/production"


@dataclass(frozen=True, slots=True)
class Demo:
    """A running ``media-gateway demo``."""

    url: str
    process: subprocess.Popen[bytes]
    said: Path
    """What it has written to standard output."""
    logged: Path
    """What it has written to standard error."""


@dataclass(frozen=True, slots=True)
class Shown:
    """The demo's page in a browser, under its own content security policy."""

    page: Page
    complaints: list[str]
    """What the browser's console says went wrong."""


@contextmanager
def running_demo(folder: Path) -> Iterator[Demo]:
    """Run the demo where another gateway is configured, which it must leave alone."""
    (folder / ".env").write_text(f"MEDIA_DATABASE_URL={NOWHERE}\n")
    (folder / "tmp").mkdir()
    env = environment(folder, TMPDIR=str(folder / "tmp"), MEDIA_STORAGE_BACKEND="s3", AWS_S3_BUCKET="production")
    said, logged = folder / "stdout", folder / "stderr"
    with (
        said.open("wb") as stdout,
        logged.open("wb") as stderr,
        process("demo", env=env, stdout=stdout, stderr=stderr) as child,
    ):
        asyncio.run(until(said.read_text, STARTED))
        yield Demo(said.read_text().strip(), child, said, logged)


@asynccontextmanager
async def open_browser(**options: Any) -> AsyncIterator[Shown]:
    """Open an empty page; ``options`` are those of Playwright's browser context."""
    expect.set_options(timeout=LOADED * 1000)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=_chromium(), args=FLAGS)
        page = await (await browser.new_context(**options)).new_page()
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        yield Shown(page, complaints)
        await browser.close()


def _chromium() -> str:
    found = next(filter(None, map(shutil.which, CHROMIUM)), None)
    assert found is not None, f"one of {', '.join(CHROMIUM)} is needed"
    return found


def medium(page: Page, kind: str) -> Locator:
    """Return the elements that show media of a kind."""
    return page.locator(f".kind-{kind} chat-media")


async def is_shown(page: Page) -> None:
    """Wait until every message is processed, and shown by the rendition that suits a browser best."""
    await expect(page.locator(".chip.status[data-value=completed]")).to_have_count(MESSAGES, timeout=PROCESSED * 1000)
    await expect(page.locator("chat-media[data-state=shown]")).to_have_count(MESSAGES)
    webp = page.locator("chat-media[data-variant=webp]")
    await expect(webp).to_have_count(PHOTOGRAPHS + STICKERS)
    await expect(page.locator("chat-media[data-variant=hls]")).to_have_count(1)
    await expect(page.locator("chat-media[data-variant=compressed]")).to_have_count(1)


async def plays(media: Locator) -> None:
    """Let video or sound play for a moment."""
    await media.evaluate(
        """async media => {
            media.muted = true;
            await media.play();
            const began = media.currentTime;
            await new Promise(resolve => {
                media.addEventListener("timeupdate", () => media.currentTime > began && resolve());
            });
            media.pause();
        }"""
    )


async def seeks(video: Locator) -> None:
    """Let the film show its tenth second."""
    shown = await video.evaluate(
        """async video => {
            const seeked = new Promise(resolve => video.addEventListener("seeked", resolve, {once: true}));
            video.currentTime = 10;
            await seeked;
            return [video.currentTime, video.readyState, video.videoWidth, video.error];
        }"""
    )
    assert shown[0] == pytest.approx(10, abs=0.1)
    assert shown[1] >= 2  # HAVE_CURRENT_DATA
    assert shown[2] > 0
    assert shown[3] is None
