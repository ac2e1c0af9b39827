/** Photographs, which come in steps and can be enlarged, and stickers. */

import { fromTemplate, load } from "./loading.js";
import { stillness } from "./playing.js";
import { Sheet } from "./sheet.js";
import { ownUrl } from "./sources.js";
import { describe } from "./words.js";

export class Photograph {
  element = fromTemplate("media-image");
  #sheet = new Sheet(this.element);
  #alt;

  constructor(message) {
    this.#alt = describe(message);
    this.element.setAttribute("aria-label", `Enlarge: ${this.#alt}`);
    this.element.addEventListener("click", () => this.#enlarge());
  }

  know(message) {
    this.#sheet.know(message);
    const { thumbnail } = message.variants;
    if (thumbnail && !this.#sheet.whole) this.#sheet.square(ownUrl(thumbnail.url));
  }

  async prepare(url) {
    return load(Object.assign(new Image(), { alt: this.#alt }), url, "load");
  }

  put(image) {
    this.#sheet.put(image);
  }

  #enlarge() {
    if (!this.#sheet.whole) return;
    const { src, alt } = this.#sheet.whole;
    this.element.dispatchEvent(new CustomEvent("enlarge", { bubbles: true, detail: { src, alt } }));
  }
}

export class Sticker {
  element = Object.assign(document.createElement("div"), { className: "cutout" });
  #alt;

  constructor(message) {
    this.#alt = describe(message);
  }

  know() {} // a placeholder has no transparency: it would be a square behind a cut-out

  async prepare(url) {
    const image = Object.assign(new Image(), { alt: this.#alt, className: "sticker" });
    await load(image, url, "load");
    return stillness.matches ? firstFrame(image) : image;
  }

  put(picture) {
    this.element.replaceChildren(picture);
  }
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
