/** What the page says of media, in words and numbers. */

const KINDS = { image: "Photograph", sticker: "Sticker", video: "Video", audio: "Audio" };

export function describe({ kind, caption, filename }) {
  return caption || filename || KINDS[kind] || "File";
}

export function clockTime(seconds) {
  const whole = Math.round(seconds || 0);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

/** Units of 1,024, as file managers and WhatsApp show them. */
export function formatSize(bytes) {
  const [amount, unit] = bytes < 1024 * 1024 ? [bytes / 1024, "KB"] : [bytes / 1024 / 1024, "MB"];
  return `${amount < 10 ? amount.toFixed(1) : Math.round(amount)} ${unit}`;
}
