"""What processing makes of the demo's media, as the page shows it: lighter, sooner, and without a jump."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from playwright.async_api import Page, Request, Route, expect

from tests.acceptance.demo_page import (
    PHOTOGRAPHS,
    PROCESSED,
    Demo,
    Shown,
    is_shown,
    medium,
    open_browser,
    plays,
    running_demo,
    seeks,
)
from tests.running import eventually

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The demo, all its media processed."""
    with running_demo(tmp_path_factory.mktemp("demo")) as demo:
        asyncio.run(eventually(lambda: _processed(demo), PROCESSED))
        yield demo


@pytest.fixture
async def browser() -> AsyncIterator[Shown]:
    async with open_browser() as browser:
        yield browser
        assert browser.complaints == []


@pytest.fixture
async def page(demo: Demo, browser: Shown) -> Page:
    await browser.page.goto(demo.url)
    await is_shown(browser.page)
    return browser.page


async def test_a_photograph_is_a_colour_then_a_blur_then_a_thumbnail_then_itself(demo: Demo, browser: Shown) -> None:
    page = browser.page
    photographs = page.locator(".enlarge")
    [first, *_] = [each for each in (await _chat(demo))["messages"] if each["kind"] == "image"]
    await page.emulate_media(reduced_motion="reduce")  # a message that is sliding in has no place yet
    async with _held(page, r"variant=thumbnail") as thumbnails, _held(page, r"variant=webp") as pictures:
        await page.goto(demo.url)
        await _reached(page, "placeholder")
        places = [await each.bounding_box() for each in await photographs.all()]
        assert await page.locator("img.placeholder").first.get_attribute("src") == first["lqip"]
        assert (
            await photographs.first.evaluate("box => box.style.getPropertyValue('--colour')")
            == (first["dominant_color"])
        )

        thumbnails.set()
        await _reached(page, "square")
        assert [await each.bounding_box() for each in await photographs.all()] == places

        pictures.set()
        await _reached(page, "whole")
        assert [await each.bounding_box() for each in await photographs.all()] == places
    await expect(page.locator(".kind-image chat-media[data-variant=webp]")).to_have_count(PHOTOGRAPHS)


async def test_the_square_lies_where_it_was_cut_from_the_picture(demo: Demo, browser: Shown) -> None:
    page = browser.page
    async with _held(page, r"variant=webp"):
        await page.goto(demo.url)
        await _reached(page, "square")
        for sheet in await page.locator(".enlarge .sheet").all():
            whole, square = await sheet.bounding_box(), await sheet.locator(".square").bounding_box()
            assert whole is not None
            assert square is not None
            side = min(whole["width"], whole["height"])
            assert (square["width"], square["height"]) == pytest.approx((side, side), abs=1)
            assert square["x"] - whole["x"] == pytest.approx((whole["width"] - side) / 2, abs=1)
            assert square["y"] - whole["y"] == pytest.approx((whole["height"] - side) / 2, abs=1)


async def test_a_photograph_is_enlarged_whole(demo: Demo, page: Page) -> None:
    portrait = next(each for each in (await _chat(demo))["messages"] if (each["height"] or 0) > (each["width"] or 0))
    await page.get_by_role("button", name=portrait["caption"]).click()

    enlarged = page.get_by_role("dialog").locator("img")
    await expect(enlarged).to_be_visible()
    size = await enlarged.evaluate("image => [image.naturalWidth, image.naturalHeight]")
    assert size == [portrait["width"], portrait["height"]]


async def test_a_voice_note_shows_its_peaks(demo: Demo, page: Page) -> None:
    [voice] = [each for each in (await _chat(demo))["messages"] if each["voice"]]
    heights = await page.locator(".wave i").evaluate_all("bars => bars.map(bar => parseFloat(bar.style.height))")

    assert heights == pytest.approx([12 + 0.88 * peak for peak in voice["waveform"]], abs=0.01)


async def test_a_voice_note_plays_as_it_came_and_as_aac(page: Page) -> None:
    audio, voice = page.locator("audio"), medium(page, "audio")
    await plays(audio)
    assert "audio/ogg" in await _type_of(page, await _source(page, "audio"))
    reached = await audio.evaluate("audio => audio.currentTime")

    await voice.get_by_role("button", name="AAC").click()
    await expect(voice).to_have_attribute("data-variant", "aac")
    await expect(voice.get_by_role("button", name="AAC")).to_have_attribute("aria-pressed", "true")
    assert await audio.evaluate("audio => audio.currentTime") == pytest.approx(reached, abs=0.05)
    assert await _type_of(page, await _source(page, "audio")) == "audio/mp4"
    await plays(audio)
    assert await audio.evaluate("audio => audio.error") is None

    await voice.get_by_role("button", name="AAC").click()
    await expect(voice).to_have_attribute("data-variant", "compressed")


async def test_the_film_moves_under_the_pointer_without_a_sound(page: Page) -> None:
    await page.get_by_role("button", name="Play: The whole day").hover()

    await expect(page.locator("video.preview.moving")).to_have_count(1)
    assert "variant=preview" in await _source(page, "video.preview")
    assert await page.locator("video.preview").evaluate("video => video.muted")

    await page.mouse.move(0, 0)
    await expect(page.locator("video.preview.moving")).to_have_count(0)


async def test_the_film_keeps_still_for_who_wants_that(demo: Demo) -> None:
    async with open_browser(reduced_motion="reduce") as browser:
        await browser.page.goto(demo.url)
        await is_shown(browser.page)
        await browser.page.get_by_role("button", name="Play: The whole day").hover()

        assert await browser.page.locator("video.preview").get_attribute("src") is None
        assert browser.complaints == []


async def test_the_film_plays_and_seeks_by_hls(page: Page) -> None:
    ranges: list[str | None] = []

    def note(request: Request) -> None:
        if re.search(r"/hls/\d+p\.mp4\?", request.url):
            ranges.append(request.headers.get("range"))

    page.on("request", note)
    await page.reload()
    await is_shown(page)
    await page.get_by_role("button", name="Play: The whole day").click()
    film = page.locator("video.main")
    await expect(film).to_be_focused()
    await expect(film).to_have_attribute("controls", "")
    await plays(film)
    await seeks(film)

    assert "/hls/master.m3u8" in await _source(page, "video.main")
    assert ranges
    assert all(ranges)


async def test_a_document_shows_its_first_page(page: Page) -> None:
    card = medium(page, "document")
    first_page = card.get_by_role("img", name="First page of Receipt 2026-1114-07.pdf")

    await expect(first_page).to_be_visible()
    assert await first_page.evaluate("image => image.naturalWidth") == 400
    await expect(card).to_contain_text("2 pages")


async def test_the_small_print_tells_what_arrived_and_what_is_shown(page: Page) -> None:
    for photograph in await page.locator(".kind-image .weight").all_text_contents():
        assert re.fullmatch(r"\d+ KB → \d+ KB WebP", photograph)
    await expect(page.locator(".kind-video .weight")).to_have_text(re.compile(r"^1\.1 MB → \d+ KB HLS$"))
    await expect(page.locator(".kind-audio .weight")).to_have_text("24 KB · audio/ogg")
    await expect(page.locator(".kind-document .weight")).to_have_text(re.compile(r"^\d+ KB · application/pdf$"))


async def test_nothing_sticks_out_of_a_telephone(page: Page) -> None:
    await page.set_viewport_size({"width": 375, "height": 800})

    assert await page.evaluate("document.documentElement.scrollWidth") == 375


async def test_a_better_rendition_waits_until_the_film_rests(demo: Demo, browser: Shown) -> None:
    page, video = browser.page, browser.page.locator("video.main")
    film, photographs = medium(page, "video"), page.locator(".kind-image chat-media[data-variant=webp]")
    async with _unprocessed(page) as processed:
        await page.goto(demo.url)
        await expect(page.locator("chat-media[data-variant=original]")).to_have_count(10)
        await video.evaluate("video => Object.assign(video, {muted: true, loop: true, witness: true}).play()")
        processed.set()
        await expect(photographs).to_have_count(PHOTOGRAPHS)
        assert await film.get_attribute("data-variant") == "original"
        assert await video.evaluate("video => video.witness && !video.paused")
        await expect(page.locator(".poster")).to_be_hidden()

        reached = await video.evaluate("video => { video.pause(); return video.currentTime; }")
        await expect(film).to_have_attribute("data-variant", "hls")
        assert await video.evaluate("video => video.currentTime") == pytest.approx(reached, abs=0.1)


async def _chat(demo: Demo) -> dict[str, Any]:
    async with httpx.AsyncClient() as client:
        chat: dict[str, Any] = (await client.get(f"{demo.url}/chat")).json()
        return chat


async def _processed(demo: Demo) -> bool:
    messages = (await _chat(demo))["messages"]
    return len(messages) == 10 and all(each["status"] == "completed" for each in messages)


async def _reached(page: Page, stage: str) -> None:
    await expect(page.locator(f".enlarge[data-stage={stage}]")).to_have_count(PHOTOGRAPHS)


async def _source(page: Page, media: str) -> str:
    source: str = await page.locator(media).evaluate("media => media.currentSrc")
    return source


async def _type_of(page: Page, url: str) -> str:
    return (await page.request.get(url)).headers["content-type"]


@asynccontextmanager
async def _held(page: Page, pattern: str) -> AsyncIterator[asyncio.Event]:
    """Hold back what the page asks for, until the event is set or the context left."""
    let_go = asyncio.Event()

    async def hold(route: Route) -> None:
        await let_go.wait()
        await route.continue_()

    await page.route(re.compile(pattern), hold)
    try:
        yield let_go
    finally:
        let_go.set()


@asynccontextmanager
async def _unprocessed(page: Page) -> AsyncIterator[asyncio.Event]:
    """Let the page see its messages as they are before they are processed, until the event is set."""
    processed = asyncio.Event()

    async def answer(route: Route) -> None:
        response = await route.fetch()
        chat = await response.json()
        for message in chat["messages"] if not processed.is_set() else ():
            message |= {"status": "processing", "lqip": None, "width": None, "variants": {}}
        await route.fulfill(response=response, json=chat)

    await page.route("**/demo/chat", answer)
    try:
        yield processed
    finally:
        await page.unroute_all(behavior="wait")
