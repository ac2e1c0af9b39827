/** Motion and sound, as far as the reader and the browser want them. */

/** Whether nothing may move that nobody has asked to. */
export const stillness = matchMedia("(prefers-reduced-motion: reduce)");

/** Play, unless a pause, a removal or the browser's own rules come first: then there is nothing to be done. */
export function play(media) {
  media.play().catch((reason) => console.debug(reason));
}
