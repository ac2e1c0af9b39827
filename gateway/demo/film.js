/** Videos: a poster that moves under the pointer, and the film behind it once it is asked for. */

import { fromTemplate, load } from "./loading.js";
import { play, stillness } from "./playing.js";
import { Sheet } from "./sheet.js";
import { ownUrl } from "./sources.js";
import { clockTime, describe } from "./words.js";

export class Film {
  element = fromTemplate("media-film");
  #poster = this.element.querySelector(".poster");
  #preview = this.element.querySelector(".preview");
  #sheet = new Sheet(this.element, this.#poster, () => this.#draw());
  #previewUrl = null;
  #video = null;
  #begun = false; // from then on the film is its own picture
  #name;

  constructor(message) {
    this.#name = describe(message);
    this.#poster.setAttribute("aria-label", `Play: ${this.#name}`);
    this.#poster.addEventListener("click", () => this.#play());
    for (const event of ["pointerenter", "focus"]) this.#poster.addEventListener(event, () => this.#move());
    for (const event of ["pointerleave", "blur"]) this.#poster.addEventListener(event, () => this.#rest());
    this.#preview.addEventListener("playing", () => this.#preview.classList.add("moving"));
  }

  /** While it plays, it is not to be exchanged. */
  get busy() {
    return this.#video !== null && !this.#video.paused;
  }

  know(message) {
    const { duration, variants } = message;
    this.#sheet.know(message);
    if (variants.medium) this.#sheet.square(ownUrl(variants.medium.url));
    if (variants.preview) this.#previewUrl = ownUrl(variants.preview.url);
    if (duration) this.element.querySelector(".duration").textContent = clockTime(duration);
  }

  async prepare(url) {
    const video = fromTemplate("media-video");
    video.setAttribute("aria-label", this.#name);
    return load(video, url, "loadeddata");
  }

  /** Show the film by another element, from where the one before has come to. */
  put(video) {
    const before = this.#video;
    const plays = before ? this.busy : this.#begun;
    this.#sheet.shape(video.videoWidth, video.videoHeight);
    for (const event of ["play", "seeking"]) video.addEventListener(event, () => this.#begin());
    if (before?.currentTime) video.currentTime = before.currentTime;
    before?.remove();
    this.element.prepend(video);
    this.#video = video;
    this.#draw();
    if (plays) play(video);
  }

  #play() {
    this.#begin();
    if (!this.#video) return; // `put` will
    this.#video.focus();
    play(this.#video);
  }

  #begin() {
    if (this.#begun) return;
    this.#begun = true;
    this.#rest();
    this.#draw();
  }

  #draw() {
    const covered = !this.#begun && this.#sheet.hasPicture;
    this.#poster.hidden = !covered;
    if (this.#video) this.#video.controls = !covered;
  }

  #move() {
    if (stillness.matches || !this.#previewUrl) return;
    if (!this.#preview.hasAttribute("src")) this.#preview.src = this.#previewUrl;
    play(this.#preview);
  }

  #rest() {
    this.#preview.pause();
    this.#preview.classList.remove("moving");
    if (this.#preview.currentTime) this.#preview.currentTime = 0;
  }
}
