/** Which rendition of a medium this browser is best shown, and where it is. */

/** The lightest first, of what looks and sounds the same. */
const PREFERENCES = {
  image: ["webp", "compressed", "original"],
  sticker: ["webp", "original"],
  video: ["hls", "compressed", "original"],
  audio: ["compressed", "original", "aac"],
  document: ["original"],
};
const PLAYED = /^(audio|video|application)\//;

const player = document.createElement("video"); // it is never shown: it knows what the browser plays

/** The signature covers no host, so the page's own origin serves as well: localhost and 127.0.0.1 are two origins. */
export function ownUrl(url, retry = 0) {
  const { pathname, search } = new URL(url, location.href);
  const own = new URL(pathname + search, location.origin);
  if (retry) own.searchParams.set("retry", retry);
  return own.href;
}

/** Every `{name, url, size, type}` that may show the medium, the best first; what may not play is the last resort. */
export function sourcesOf(message) {
  const original = { url: message.url, size: message.size, type: message.mime_type };
  const ready = { ...message.variants, original };
  return (PREFERENCES[message.kind] ?? PREFERENCES.document)
    .filter((name) => name in ready)
    .map((name) => ({ name, ...ready[name] }))
    .sort((one, other) => mayPlay(other) - mayPlay(one));
}

function mayPlay({ type }) {
  return !PLAYED.test(type) || player.canPlayType(type) !== "";
}
