"""``media-gateway demo`` in a real browser: every medium is shown and stored, and stays when the provider is gone."""

import asyncio
import re
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

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
PICTURES = 7  # five photographs, two stickers
NOWHERE = "postgresql://gateway:secret@127.0.0.1:1/production"


@dataclass(frozen=True, slots=True)
class Demo:
    """A running demo and a page that shows it."""

    process: subprocess.Popen[bytes]
    said: Path
    """What it has written to standard output."""
    logged: Path
    """What it has written to standard error."""
    page: Page
    complaints: list[str]
    """What the browser's console says went wrong."""


@pytest.fixture
async def demo(tmp_path: Path) -> AsyncIterator[Demo]:
    (tmp_path / ".env").write_text(f"MEDIA_DATABASE_URL={NOWHERE}\n")
    (tmp_path / "tmp").mkdir()
    env = environment(tmp_path, TMPDIR=str(tmp_path / "tmp"), MEDIA_STORAGE_BACKEND="s3", AWS_S3_BUCKET="production")
    said, logged = tmp_path / "stdout", tmp_path / "stderr"
    with (
        said.open("wb") as stdout,
        logged.open("wb") as stderr,
        process("demo", env=env, stdout=stdout, stderr=stderr) as child,
    ):
        await until(said.read_text)
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=_chromium(), args=FLAGS)
            page = await (await browser.new_context(bypass_csp=True)).new_page()
            complaints: list[str] = []
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
            yield Demo(child, said, logged, page, complaints)
            await browser.close()


def _chromium() -> str:
    found = next(filter(None, map(shutil.which, CHROMIUM)), None)
    assert found is not None, f"one of {', '.join(CHROMIUM)} is needed"
    return found


async def test_the_whole_chat(demo: Demo, tmp_path: Path) -> None:
    await demo.page.goto(demo.said.read_text())
    await _is_shown(demo.page)
    await _plays_and_seeks(demo.page.locator("video"))
    await demo.page.screenshot(path=tmp_path / "online.png", full_page=True)

    await demo.page.get_by_role("switch", name="Provider").click()
    await expect(demo.page.get_by_role("switch", name="Provider")).to_have_attribute("aria-checked", "false")
    await demo.page.reload()
    await _is_shown(demo.page)
    await demo.page.get_by_role("button", name="Reload all media").click()
    await expect(demo.page.locator("#announcer")).to_have_text("All media reloaded")
    sources = set(await demo.page.locator("#messages .chip.source").all_text_contents())
    await _plays_and_seeks(demo.page.locator("video"))
    await demo.page.screenshot(path=tmp_path / "offline.png", full_page=True)

    assert sources <= {"storage", "cache"}
    assert demo.complaints == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
async def test_it_leaves_nothing_behind(demo: Demo, tmp_path: Path, number: signal.Signals) -> None:
    demo.process.send_signal(number)

    assert await asyncio.to_thread(demo.process.wait, 20) == 0
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/demo\n", demo.said.read_text())
    assert demo.logged.read_text() == ""
    assert [path.name for path in (tmp_path / "tmp").iterdir() if path.name.startswith("media-gateway")] == []


async def _is_shown(page: Page) -> None:
    """Wait until every message is stored and every picture is decoded."""
    await expect(page.locator(".chip.status[data-value=completed]")).to_have_count(MESSAGES, timeout=30_000)
    await expect(page.locator("chat-media[data-state=shown]")).to_have_count(MESSAGES, timeout=30_000)
    await expect(page.locator("#messages .chip.source:visible")).to_have_count(MESSAGES)
    pictures = await page.locator("chat-media img").all()
    assert len(pictures) == PICTURES
    for picture in pictures:
        assert await picture.evaluate("image => image.complete && image.naturalWidth") > 0
    assert await page.locator("audio").evaluate("audio => audio.duration") > 0


async def _plays_and_seeks(video: Locator) -> None:
    """Let the video play for a moment, and then show its tenth second."""
    await video.evaluate(
        """async video => {
            video.muted = true;
            await video.play();
            const began = video.currentTime;
            await new Promise(resolve => {
                video.addEventListener("timeupdate", () => video.currentTime > began && resolve());
            });
            video.pause();
        }"""
    )
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
