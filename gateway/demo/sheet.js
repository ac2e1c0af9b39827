/**
 * A picture that comes in steps, each in the place of the next: its colour, a blurred placeholder, the sharp square
 * from its middle, the whole. The box has its shape from the first of them on, so nothing moves.
 */

import { load } from "./loading.js";

const STAGES = ["empty", "colour", "placeholder", "square", "whole"];

export class Sheet {
  #frame;
  #reached;
  #sheet = Object.assign(document.createElement("span"), { className: "sheet" });
  #steps = {};
  #whole = null;

  /**
   * `frame` gets shape, colour and stage; `parent`, in it, holds the layers below whatever it has of its own;
   * `reached` is called after every step.
   */
  constructor(frame, parent = frame, reached = () => {}) {
    this.#frame = frame;
    this.#reached = reached;
    for (const className of ["placeholder", "square"]) {
      this.#steps[className] = Object.assign(new Image(), { className, alt: "" });
    }
    this.#sheet.append(...Object.values(this.#steps));
    parent.prepend(this.#sheet);
    frame.dataset.stage = STAGES[0];
  }

  /** The whole picture, null until there is one. */
  get whole() {
    return this.#whole;
  }

  /** Whether there is more to see than a colour. */
  get hasPicture() {
    return STAGES.indexOf(this.#frame.dataset.stage) > STAGES.indexOf("colour");
  }

  /** Take what is known of the picture by now. */
  know({ width, height, dominant_color: colour, lqip }) {
    if (width && height) this.shape(width, height);
    if (colour) this.#frame.style.setProperty("--colour", colour);
    if (colour) this.#reach("colour");
    if (lqip) this.#fill("placeholder", lqip);
  }

  shape(width, height) {
    this.#frame.style.setProperty("--ratio", width / height);
    this.#frame.style.setProperty("--width", `${width}px`);
  }

  /** Show the square from the picture's middle. */
  square(url) {
    this.#fill("square", url);
  }

  /** Show the whole picture, which has been loaded. */
  put(whole) {
    this.#whole?.remove();
    this.#whole = Object.assign(whole, { className: "whole" });
    this.#sheet.append(whole);
    this.shape(whole.naturalWidth, whole.naturalHeight);
    this.#reach("whole");
  }

  #fill(name, url) {
    const layer = this.#steps[name];
    if (layer.hasAttribute("src")) return;
    load(layer, url, "load").then(
      () => this.#reach(name),
      () => layer.removeAttribute("src"), // a step that fails is left out, until the next answer names it again
    );
  }

  #reach(stage) {
    const before = STAGES.indexOf(this.#frame.dataset.stage);
    if (STAGES.indexOf(stage) > before) this.#frame.dataset.stage = stage;
    this.#reached();
  }
}
