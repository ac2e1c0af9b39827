/** Voice notes and music: bars that show how loud it is and where it plays, and a switch to AAC. */

import { fromTemplate, load } from "./loading.js";
import { play } from "./playing.js";
import { clockTime, describe } from "./words.js";

const BARS = 64; // as many as the peaks that `info` has

export class Sound {
  element = fromTemplate("media-audio");
  #audio = null;
  #bars = Array.from({ length: BARS }, () => document.createElement("i"));
  #parts = Object.fromEntries(
    [".play", ".wave", "input", ".clock", ".aac"].map((part) => [part, this.element.querySelector(part)]),
  );

  constructor(message) {
    this.element.setAttribute("aria-label", message.voice ? "Voice message" : describe(message));
    this.#parts[".wave"].append(...this.#bars);
    this.#parts[".play"].addEventListener("click", () => this.#toggle());
    this.#parts.input.addEventListener("input", ({ target }) => {
      this.#audio.currentTime = target.value * this.#audio.duration;
    });
    this.#parts[".aac"].addEventListener("click", () => this.#choose());
  }

  /** While it plays, it is not to be exchanged but by the switch. */
  get busy() {
    return this.#audio !== null && !this.#audio.paused;
  }

  know({ waveform, variants }) {
    this.#parts[".aac"].hidden = !variants.aac;
    this.#bars.forEach((bar, index) => {
      const peak = waveform?.[index];
      if (peak !== undefined) bar.style.height = `${12 + 0.88 * peak}%`;
    });
  }

  async prepare(url) {
    return load(Object.assign(new Audio(), { preload: "metadata" }), url, "loadedmetadata");
  }

  /** Play by another element, from where the one before has come to. */
  put(audio, { name }) {
    const before = this.#audio;
    const plays = this.busy;
    for (const event of ["play", "pause", "seeked", "ended"]) audio.addEventListener(event, () => this.#draw());
    this.#audio = audio;
    this.#parts[".play"].disabled = this.#parts.input.disabled = false;
    this.#parts[".aac"].setAttribute("aria-pressed", name === "aac");
    if (before?.currentTime) audio.currentTime = before.currentTime;
    before?.pause();
    before?.remove();
    this.element.prepend(audio);
    if (plays) play(audio);
    this.#draw();
  }

  #toggle() {
    if (this.#audio.paused) play(this.#audio);
    else this.#audio.pause();
  }

  #choose() {
    const name = this.#parts[".aac"].getAttribute("aria-pressed") === "true" ? null : "aac";
    this.element.dispatchEvent(new CustomEvent("choose", { bubbles: true, detail: { name } }));
  }

  #draw() {
    const { currentTime, duration, paused } = this.#audio;
    const { ".play": button, input: position, ".clock": clock } = this.#parts;
    const played = currentTime / duration;
    position.value = played;
    position.setAttribute("aria-valuetext", `${clockTime(currentTime)} of ${clockTime(duration)}`);
    clock.textContent = clockTime(paused && !currentTime ? duration : currentTime);
    button.setAttribute("aria-label", paused ? "Play" : "Pause");
    button.querySelector("use").setAttribute("href", paused ? "#icon-play" : "#icon-pause");
    this.#bars.forEach((bar, index) => bar.classList.toggle("played", currentTime > 0 && index < played * BARS));
    if (!paused) requestAnimationFrame(() => this.#draw());
  }
}
