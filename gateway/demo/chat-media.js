/**
 * `<chat-media>` shows one medium of a chat and tells where its bytes came from.
 *
 * Give it a `message` (kind, url, download_url, caption, filename, mime_type). It fires
 * - `served` after every answer: `detail` is `{status, source, headers, problem}`;
 * - `enlarge` when a photograph is activated: `detail` is `{src, alt}`.
 */

const PROBE_TIMEOUT = 30_000; // milliseconds; a cold answer starts within seconds
const BARS = 44;
const HEADERS = [
  "X-Media-Source", "Content-Type", "Content-Range", "Content-Length", "ETag",
  "Last-Modified", "Cache-Control", "Server-Timing",
];
const KINDS = { image: "Photograph", sticker: "Sticker", video: "Video", audio: "Audio" };
const UNREACHABLE = { title: "The gateway does not answer", detail: "It may be restarting." };
const UNREADABLE = {
  title: "This medium cannot be shown",
  detail: "The bytes arrived, but the browser cannot decode them.",
};

const stillness = matchMedia("(prefers-reduced-motion: reduce)");

/** The signature covers no host, so the page's own origin serves as well: localhost and 127.0.0.1 are two origins. */
export function ownUrl(url, retry = 0) {
  const { pathname, search } = new URL(url, location.href);
  const own = new URL(pathname + search, location.origin);
  if (retry) own.searchParams.set("retry", retry);
  return own.href;
}

/** Import, not clone: an element that still belongs to the template's own document loads no media. */
export function fromTemplate(id) {
  return document.importNode(document.getElementById(id).content.firstElementChild, true);
}

class ChatMedia extends HTMLElement {
  #message;
  #retry = 0;
  #turn = 0; // of several loads under way only the latest may draw

  /** The first message given is drawn; later ones only say what a reload will ask for. */
  set message(message) {
    const first = !this.#message;
    this.#message = message;
    if (first) this.#load();
  }

  get broken() {
    return this.dataset.state === "broken";
  }

  /** Fetch the medium again, past the browser's own cache. */
  reload() {
    this.#retry += 1;
    return this.#load();
  }

  async #load() {
    const turn = ++this.#turn;
    const url = ownUrl(this.#message.url, this.#retry);
    this.dataset.state = this.broken || !this.firstElementChild ? "loading" : "reloading";
    const [answer, shown] = await Promise.all([probe(url), this.#build(url)]);
    if (turn !== this.#turn) return;
    if (answer.problem || !shown) this.#showBroken(answer.problem ?? UNREADABLE);
    else this.#show(shown);
    this.dispatchEvent(new CustomEvent("served", { detail: answer }));
  }

  /** Return the element that shows the medium once it has something to show, or null. */
  async #build(url) {
    const build = BUILDERS[this.#message.kind] ?? buildDocument;
    try {
      return await build(url, this.#message);
    } catch {
      return null; // the answer to the probe says why
    }
  }

  #show(next) {
    const before = this.querySelector("audio, video");
    this.replaceChildren(next);
    this.dataset.state = "shown";
    const now = this.querySelector("audio, video");
    if (now && before) now.currentTime = before.currentTime;
    now?.addEventListener("error", () => this.#showBroken(UNREADABLE));
  }

  #showBroken({ title, detail }) {
    const broken = fromTemplate("media-broken");
    broken.querySelector(".title").textContent = title;
    broken.querySelector(".detail").textContent = detail ?? "";
    broken.querySelector(".again").addEventListener("click", () => this.reload());
    this.replaceChildren(broken);
    this.dataset.state = "broken";
  }
}

/** Ask for the first byte only: the headers tell all that is to be known. */
async function probe(url) {
  let response;
  try {
    const signal = AbortSignal.timeout(PROBE_TIMEOUT);
    response = await fetch(url, { headers: { Range: "bytes=0-0" }, cache: "no-store", signal });
  } catch {
    return { status: 0, source: null, headers: [], problem: UNREACHABLE };
  }
  const headers = HEADERS.map((name) => [name, response.headers.get(name)]).filter(([, value]) => value !== null);
  const problem = response.ok ? null : await readProblem(response);
  if (response.ok) await response.body?.cancel();
  return { status: response.status, source: response.headers.get("X-Media-Source"), headers, problem };
}

async function readProblem(response) {
  const fallback = { title: response.statusText || `Error ${response.status}` };
  const isProblem = response.headers.get("Content-Type")?.startsWith("application/problem+json");
  return isProblem ? response.json().catch(() => fallback) : fallback;
}

function describe({ kind, caption, filename }) {
  return caption || filename || KINDS[kind] || "File";
}

/** Start to load `url` and wait for the event that says there is something to show. */
function load(element, url, ready) {
  return new Promise((resolve, reject) => {
    element.addEventListener(ready, resolve, { once: true });
    element.addEventListener("error", reject, { once: true });
    element.src = url;
  });
}

async function buildImage(url, message) {
  const button = fromTemplate("media-image");
  const image = button.querySelector("img");
  image.alt = describe(message);
  button.addEventListener("click", () => {
    button.dispatchEvent(new CustomEvent("enlarge", { bubbles: true, detail: { src: image.src, alt: image.alt } }));
  });
  await load(image, url, "load");
  return button;
}

async function buildSticker(url, message) {
  const image = fromTemplate("media-sticker");
  image.alt = describe(message);
  await load(image, url, "load");
  return stillness.matches ? firstFrame(image) : image;
}

/** An animated picture cannot be paused; a canvas keeps its first frame. */
function firstFrame(image) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: image.naturalWidth, height: image.naturalHeight, className: image.className });
  canvas.getContext("2d").drawImage(image, 0, 0);
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", image.alt);
  return canvas;
}

async function buildVideo(url, message) {
  const video = fromTemplate("media-video");
  video.setAttribute("aria-label", describe(message));
  await load(video, url, "loadeddata");
  return video;
}

async function buildAudio(url, message) {
  const player = fromTemplate("media-audio");
  const parts = ["audio", ".play", "input", ".clock"];
  const [audio, play, position, clock] = parts.map((part) => player.querySelector(part));
  const bars = Array.from({ length: BARS }, () => document.createElement("i"));
  player.querySelector(".wave").append(...bars);
  player.setAttribute("role", "group");
  player.setAttribute("aria-label", message.voice ? "Voice message" : describe(message));
  await load(audio, url, "loadedmetadata");

  const draw = () => {
    const played = audio.currentTime / audio.duration;
    position.value = played;
    position.setAttribute("aria-valuetext", `${clockTime(audio.currentTime)} of ${clockTime(audio.duration)}`);
    clock.textContent = clockTime(audio.paused && !audio.currentTime ? audio.duration : audio.currentTime);
    play.setAttribute("aria-label", audio.paused ? "Play" : "Pause");
    play.querySelector("use").setAttribute("href", audio.paused ? "#icon-play" : "#icon-pause");
    bars.forEach((bar, index) => bar.classList.toggle("played", audio.currentTime > 0 && index < played * BARS));
    if (!audio.paused) requestAnimationFrame(draw);
  };
  for (const event of ["play", "pause", "seeked", "ended"]) audio.addEventListener(event, draw);
  play.addEventListener("click", () => (audio.paused ? audio.play() : audio.pause()));
  position.addEventListener("input", () => { audio.currentTime = position.value * audio.duration; });
  draw();
  drawWave(url, bars);
  return player;
}

/** Give each bar the height of the loudest sample in its share. */
async function drawWave(url, bars) {
  let samples;
  try {
    const bytes = await (await fetch(url)).arrayBuffer();
    samples = (await new OfflineAudioContext(1, 1, 48_000).decodeAudioData(bytes)).getChannelData(0);
  } catch {
    return; // the bars stay level: they are an ornament, and the player has shown its own errors
  }
  const share = Math.floor(samples.length / bars.length);
  const peaks = bars.map((_, index) => peak(samples.subarray(index * share, (index + 1) * share)));
  const loudest = Math.max(...peaks, 0.01);
  bars.forEach((bar, index) => { bar.style.height = `${12 + (88 * peaks[index]) / loudest}%`; });
}

function peak(samples) {
  return samples.reduce((highest, sample) => Math.max(highest, Math.abs(sample)), 0);
}

function clockTime(seconds) {
  const whole = Math.round(seconds || 0);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

async function buildDocument(url, message) {
  const card = fromTemplate("media-document");
  card.querySelector("text").textContent = (message.filename?.split(".").pop() ?? "file").slice(0, 4).toUpperCase();
  card.querySelector(".filename").textContent = message.filename ?? "File";
  const download = card.querySelector(".download");
  download.href = ownUrl(message.download_url);
  download.download = message.filename ?? "";
  return card;
}

const BUILDERS = {
  image: buildImage,
  sticker: buildSticker,
  video: buildVideo,
  audio: buildAudio,
  document: buildDocument,
};

customElements.define("chat-media", ChatMedia);
