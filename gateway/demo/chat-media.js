/**
 * `<chat-media>` shows one medium of a chat, by the rendition that suits it best, and tells where its bytes came from.
 *
 * Give it a `message` (kind, url, download_url, caption, filename, mime_type, size, and as soon as they are known
 * width, height, duration, pages, lqip, dominant_color, waveform and variants); give it again whenever more is known.
 * It fires
 * - `served` after every answer: `detail` is `{status, source, headers, problem, shown}`;
 * - `enlarge` when a photograph is activated: `detail` is `{src, alt}`.
 *
 * What shows a medium of some kind has an `element`, and
 * - `know(message)` takes what is known by now;
 * - `prepare(url)` resolves to what is to be put in place once that can be shown, and rejects if it never can;
 * - `put(prepared, source)` puts it in place;
 * - `busy` tells whether that would interrupt somebody.
 */

import { Film } from "./film.js";
import { fromTemplate, probe } from "./loading.js";
import { Paper } from "./paper.js";
import { Photograph, Sticker } from "./picture.js";
import { Sound } from "./sound.js";
import { ownUrl, sourcesOf } from "./sources.js";

const VIEWS = { image: Photograph, sticker: Sticker, video: Film, audio: Sound, document: Paper };
const UNREADABLE = {
  title: "This medium cannot be shown",
  detail: "The bytes arrived, but the browser cannot decode them.",
};

class ChatMedia extends HTMLElement {
  #message;
  #view;
  #shown = null; // a source
  #medium = null; // what was prepared of it
  #chosen = null; // the name of the source that the reader wants
  #refused = new Set(); // the names of those that could not be shown
  #improving = false;
  #retry = 0;
  #turn = 0; // of several loads under way only the latest may draw

  set message(message) {
    const first = !this.#message;
    this.#message = message;
    if (first) this.#begin();
    this.#view.know(message);
    if (first) this.#load();
    else this.#improve();
  }

  get broken() {
    return this.dataset.state === "broken";
  }

  /** Fetch the medium again, past the browser's own cache. */
  reload() {
    this.#retry += 1;
    this.#refused.clear();
    return this.#load();
  }

  #begin() {
    this.#view = new (VIEWS[this.#message.kind] ?? Paper)(this.#message);
    this.#view.element.addEventListener("choose", ({ detail }) => this.#choose(detail.name));
    this.replaceChildren(this.#view.element);
  }

  #choose(name) {
    this.#chosen = name;
    this.#load();
  }

  #sources() {
    const sources = sourcesOf(this.#message).filter(({ name }) => !this.#refused.has(name));
    return sources.sort((one, other) => (other.name === this.#chosen) - (one.name === this.#chosen));
  }

  async #load() {
    const turn = ++this.#turn;
    this.dataset.state = this.#shown && !this.broken ? "reloading" : "loading";
    let answer = { status: 0, source: null, headers: [], problem: UNREADABLE };
    for (const source of this.#sources()) {
      const [asked, medium] = await this.#fetch(source);
      if (turn !== this.#turn) return;
      answer = asked;
      if (!answer.problem) return this.#show(source, medium, answer);
      this.#refused.add(source.name);
    }
    this.#showBroken(answer);
  }

  /** Once everything is ready, show what is better than the rendition shown; that stays until it is replaced. */
  async #improve() {
    const idle = this.dataset.state === "shown" && !this.#improving && !this.#view.busy;
    const [best] = this.#sources();
    if (!idle || this.#message.status !== "completed" || !best || best.name === this.#shown.name) return;
    this.#improving = true;
    const turn = this.#turn;
    const [answer, medium] = await this.#fetch(best);
    this.#improving = false;
    if (turn !== this.#turn || this.#view.busy) return; // the next message is another chance
    if (answer.problem) this.#refused.add(best.name);
    else this.#show(best, medium, answer);
  }

  /** Ask for the headers and prepare the medium, at the same time. */
  async #fetch(source) {
    const url = ownUrl(source.url, this.#retry);
    const unreadable = Symbol("unreadable");
    const [answer, medium] = await Promise.all([probe(url), this.#view.prepare(url).catch(() => unreadable)]);
    return [medium === unreadable ? { ...answer, problem: answer.problem ?? UNREADABLE } : answer, medium];
  }

  #show(source, medium, answer) {
    this.#view.put(medium, source);
    if (this.firstElementChild !== this.#view.element) this.replaceChildren(this.#view.element);
    this.#shown = source;
    this.#medium = medium;
    this.dataset.state = "shown";
    this.dataset.variant = source.name;
    medium?.addEventListener("error", () => this.#fail(medium));
    this.#tell(answer);
  }

  /** What had begun to play plays no further: perhaps another rendition does. */
  #fail(medium) {
    if (medium !== this.#medium) return;
    this.#refused.add(this.#shown.name);
    this.#load();
  }

  #showBroken(answer) {
    const { title, detail } = answer.problem;
    const broken = fromTemplate("media-broken");
    broken.querySelector(".title").textContent = title;
    broken.querySelector(".detail").textContent = detail ?? "";
    broken.querySelector(".again").addEventListener("click", () => this.reload());
    this.replaceChildren(broken);
    this.dataset.state = "broken";
    this.#tell(answer);
  }

  #tell(answer) {
    this.dispatchEvent(new CustomEvent("served", { detail: { ...answer, shown: this.broken ? null : this.#shown } }));
  }
}

customElements.define("chat-media", ChatMedia);
