/** The chat around the media: polls the gateway, draws each message once and keeps what is said about it current. */

import "./chat-media.js";
import { fromTemplate } from "./loading.js";
import { ownUrl } from "./sources.js";
import { formatSize } from "./words.js";

const POLL_TIMEOUT = 5_000; // milliseconds, as are the next two
const POLL_BUSY = 1_000;
const POLL_CALM = 5_000;
const COPIED = 1_500;
const SENDERS = { us: "You", them: "Ana" };
const LABELS = { webp: "WebP", compressed: "compressed", hls: "HLS", aac: "AAC" };
const SOURCES = ["cache", "storage", "replica", "provider"];

const day = new Intl.DateTimeFormat("en-GB", { weekday: "long", day: "numeric", month: "long" });
const time = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });

const [messages, provider, counters, offline, empty, announcer, lightbox] = [
  "messages", "provider", "counters", "offline", "empty", "announcer", "lightbox",
].map((id) => document.getElementById(id));

/** What is on the page: message id → {item, media, message, source, shown}. */
const shown = new Map();
let chat = null; // the latest answer

async function poll() {
  let delay = POLL_BUSY;
  try {
    chat = await askJson("/demo/chat");
    draw();
    if (chat.messages.every(({ status }) => status === "completed" || status === "failed")) delay = POLL_CALM;
  } catch (error) {
    counters.textContent = "The gateway does not answer. Trying again …";
    console.warn(error);
  }
  setTimeout(poll, delay);
}

async function askJson(path, options = {}) {
  const response = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(POLL_TIMEOUT), ...options });
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return response.json();
}

function draw() {
  for (const message of chat.messages) {
    if (!shown.has(message.message_id)) append(message);
    patch(shown.get(message.message_id), message);
  }
  messages.setAttribute("aria-busy", "false");
  empty.hidden = shown.size > 0;
  if (!provider.disabled) drawProvider(chat.provider_online);
  drawCounters();
}

function append(message) {
  const sent = new Date(message.timestamp);
  const last = [...shown.values()].at(-1)?.message;
  const newDay = !last || new Date(last.timestamp).toDateString() !== sent.toDateString();
  if (newDay) messages.append(drawDay(sent));
  const item = fromTemplate("message");
  const entry = { item, media: item.querySelector("chat-media"), message, source: null, shown: null };
  item.classList.add(message.sender === "us" ? "us" : "them", `kind-${message.kind}`);
  item.classList.toggle("follows", !newDay && last.sender === message.sender);
  const name = SENDERS[message.sender] ?? message.sender;
  item.querySelector(".sender").textContent = name;
  item.querySelector(".caption").textContent = message.caption ?? "";
  drawTime(item.querySelector(".words time"), sent, time.format(sent));
  item.querySelector("article").setAttribute("aria-label", `${name}, ${time.format(sent)}`);
  listen(entry);
  shown.set(message.message_id, entry);
  messages.append(item);
}

function drawDay(date) {
  const separator = fromTemplate("day");
  const today = date.toDateString() === new Date().toDateString();
  drawTime(separator.querySelector("time"), date, today ? "Today" : day.format(date));
  return separator;
}

function drawTime(element, date, text) {
  element.dateTime = date.toISOString();
  element.textContent = text;
}

function listen(entry) {
  const { item, media } = entry;
  media.addEventListener("served", ({ detail }) => drawAnswer(entry, detail));
  item.querySelector(".reload").addEventListener("click", () => media.reload());
  item.querySelector(".copy").addEventListener("click", ({ currentTarget }) => copy(item, currentTarget));
}

/** Bring what may change up to date and leave the medium alone: a poll must not restart a video. */
function patch(entry, message) {
  const ripe = message.status === "completed" && entry.message.status !== "completed";
  entry.message = message;
  entry.media.message = message;
  setChip(entry.item.querySelector(".status"), message.status);
  drawWeight(entry);
  if (ripe && entry.media.broken) entry.media.reload();
}

function setChip(chip, value) {
  chip.hidden = !value;
  if (chip.dataset.value !== value) Object.assign(chip, { textContent: value }).dataset.value = value;
}

/** Say what arrived and what is shown of it, and how to ask for that in a terminal. */
function drawWeight({ item, message, shown }) {
  const { size, mime_type: type } = message;
  const as = shown && shown.size !== size ? `→ ${formatSize(shown.size)} ${LABELS[shown.name]}` : `· ${type.split(";")[0]}`;
  item.querySelector(".weight").textContent = `${formatSize(size)} ${as}`;
  const url = ownUrl(shown?.url ?? message.url).replaceAll("'", "%27");
  item.querySelector(".curl code").textContent = `curl -r 0-99 -i '${url}'`;
}

function drawAnswer(entry, { status, source, headers, shown }) {
  Object.assign(entry, { source, shown });
  setChip(entry.item.querySelector(".source"), source ?? "");
  entry.item.querySelector(".request").textContent = status
    ? `Asked for one byte (Range: bytes=0-0), answered with ${status}`
    : "No answer";
  const rows = headers.flatMap(([name, value]) => [element("dt", name), element("dd", value)]);
  entry.item.querySelector(".panel dl").replaceChildren(...rows);
  drawWeight(entry);
  drawCounters();
}

function element(name, text) {
  return Object.assign(document.createElement(name), { textContent: text });
}

function drawCounters() {
  const stored = chat.messages.filter(({ status }) => status === "completed").length;
  const served = (name) => [...shown.values()].filter(({ source }) => source === name).length;
  const sources = SOURCES.map((name) => [name, served(name)]).filter(([name, count]) => count || name !== "replica");
  counters.replaceChildren(
    counter("stored ", `${stored} of ${chat.messages.length}`),
    counter("provider calls ", chat.provider_calls),
    counter(`served from ${joined(sources, 0)}: `, joined(sources, 1)),
  );
}

function joined(rows, column) {
  return rows.map((row) => row[column]).join(" / ");
}

function counter(name, value) {
  const part = element("span", name);
  part.append(element("b", value));
  return part;
}

function drawProvider(online) {
  provider.setAttribute("aria-checked", online);
  provider.querySelector("b").textContent = online ? "online" : "offline";
  offline.hidden = online;
}

async function switchProvider() {
  const online = provider.getAttribute("aria-checked") !== "true";
  provider.disabled = true; // a poll under way must not turn it back
  try {
    const headers = { "Content-Type": "application/json" };
    const answer = await askJson("/demo/provider", { method: "POST", headers, body: JSON.stringify({ online }) });
    drawProvider(answer.provider_online);
    announcer.textContent = `Provider is ${answer.provider_online ? "online" : "offline"}`;
  } catch (error) {
    announcer.textContent = "The provider could not be switched";
    console.warn(error);
  } finally {
    provider.disabled = false;
    provider.focus();
  }
}

async function reloadAll({ currentTarget: button }) {
  button.disabled = true;
  await Promise.all([...shown.values()].map(({ media }) => media.reload()));
  button.disabled = false;
  announcer.textContent = "All media reloaded";
}

async function copy(item, button) {
  const code = item.querySelector(".curl code");
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, COPIED);
  } catch {
    getSelection().selectAllChildren(code); // without the permission, the reader presses the keys
  }
}

function enlarge({ detail }) {
  Object.assign(lightbox.querySelector("img"), detail);
  lightbox.showModal();
}

messages.addEventListener("enlarge", enlarge);
provider.addEventListener("click", switchProvider);
document.getElementById("reload-all").addEventListener("click", reloadAll);
document.querySelector(".guide details").open = matchMedia("(min-width: 70rem)").matches;
poll();
