"""``media-gateway demo`` in a real browser: every medium is shown and stored, and stays when the provider is gone."""

import asyncio
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.acceptance.demo_page import (
    MESSAGES,
    PHOTOGRAPHS,
    STICKERS,
    Demo,
    is_shown,
    open_browser,
    plays,
    running_demo,
    seeks,
)

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    with running_demo(tmp_path) as demo:
        yield demo


async def test_the_whole_chat(demo: Demo, tmp_path: Path) -> None:
    async with open_browser() as browser:
        page = browser.page
        await page.goto(demo.url)
        await is_shown(page)
        await _is_complete(page)
        await page.screenshot(path=tmp_path / "online.png", full_page=True)
        await plays(page.locator("video.main"))
        await seeks(page.locator("video.main"))

        await page.get_by_role("switch", name="Provider").click()
        await expect(page.get_by_role("switch", name="Provider")).to_have_attribute("aria-checked", "false")
        await page.reload()
        await is_shown(page)
        await page.get_by_role("button", name="Reload all media").click()
        await expect(page.locator("#announcer")).to_have_text("All media reloaded")
        await _is_complete(page)
        sources = set(await page.locator("#messages .chip.source").all_text_contents())
        await page.screenshot(path=tmp_path / "offline.png", full_page=True)
        await plays(page.locator("video.main"))
        await seeks(page.locator("video.main"))

    assert sources <= {"storage", "cache"}
    assert browser.complaints == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
async def test_it_leaves_nothing_behind(demo: Demo, tmp_path: Path, number: signal.Signals) -> None:
    demo.process.send_signal(number)

    assert await asyncio.to_thread(demo.process.wait, 60) == 0
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/demo\n", demo.said.read_text())
    assert demo.logged.read_text() == ""
    assert [path.name for path in (tmp_path / "tmp").iterdir() if path.name.startswith("media-gateway")] == []


async def _is_complete(page: Page) -> None:
    """See that every picture is decoded, and every source named."""
    await expect(page.locator("#messages .chip.source:visible")).to_have_count(MESSAGES)
    pictures = await page.locator("img.whole, img.sticker").all()
    assert len(pictures) == PHOTOGRAPHS + STICKERS
    for picture in pictures:
        assert await picture.evaluate("image => image.complete && image.naturalWidth") > 0
    assert await page.locator("audio").evaluate("audio => audio.duration") > 0
