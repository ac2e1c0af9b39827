/** Documents: a card with the top of the first page, and a download. */

import { fromTemplate, load } from "./loading.js";
import { ownUrl } from "./sources.js";

export class Paper {
  element = fromTemplate("media-document");
  #page = this.element.querySelector(".page");
  #name;

  constructor({ filename, download_url: url }) {
    this.#name = filename ?? "File";
    this.element.querySelector("text").textContent = (filename?.split(".").pop() ?? "file").slice(0, 4).toUpperCase();
    this.element.querySelector(".filename").textContent = this.#name;
    const download = this.element.querySelector(".download");
    download.href = ownUrl(url);
    download.download = filename ?? "";
  }

  know({ pages, variants }) {
    if (pages) this.element.querySelector(".pages").textContent = pages === 1 ? "1 page" : `${pages} pages`;
    if (variants.medium && !this.#page.hasAttribute("src")) this.#show(ownUrl(variants.medium.url));
  }

  async prepare() {
    return null; // a document is downloaded, not shown
  }

  put() {}

  async #show(url) {
    this.#page.hidden = false; // at once, so that nothing moves when it is there
    try {
      await load(this.#page, url, "load");
      this.#page.alt = `First page of ${this.#name}`;
    } catch {
      this.#page.hidden = true; // the card does without, until the next answer names it again
      this.#page.removeAttribute("src");
    }
  }
}
