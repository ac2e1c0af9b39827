/** Ways to get hold of what a medium is shown by: templates, elements that load, and the headers of an answer. */

const PROBE_TIMEOUT = 30_000; // milliseconds; a cold answer starts within seconds
const HEADERS = [
  "X-Media-Source", "X-Media-Variant", "Content-Type", "Content-Range", "Content-Length", "ETag",
  "Last-Modified", "Cache-Control", "Server-Timing",
];
const UNREACHABLE = { title: "The gateway does not answer", detail: "It may be restarting." };

/** Import, not clone: an element that still belongs to the template's own document loads no media. */
export function fromTemplate(id) {
  return document.importNode(document.getElementById(id).content.firstElementChild, true);
}

/** Start to load `url` and wait for the event that says there is something to show. */
export function load(element, url, ready) {
  return new Promise((resolve, reject) => {
    element.addEventListener(ready, () => resolve(element), { once: true });
    element.addEventListener("error", reject, { once: true });
    element.src = url;
  });
}

/** Ask for the first byte only: the headers tell all that is to be known. */
export async function probe(url) {
  let response;
  try {
    const signal = AbortSignal.timeout(PROBE_TIMEOUT);
    response = await fetch(url, { headers: { Range: "bytes=0-0" }, cache: "no-store", signal });
  } catch {
    return { status: 0, source: null, headers: [], problem: UNREACHABLE };
  }
  const headers = HEADERS.map((name) => [name, response.headers.get(name)]).filter(([, value]) => value !== null);
  const problem = response.ok ? null : await readProblem(response);
  if (response.ok) await response.body?.cancel();
  return { status: response.status, source: response.headers.get("X-Media-Source"), headers, problem };
}

async function readProblem(response) {
  const fallback = { title: response.statusText || `Error ${response.status}` };
  const isProblem = response.headers.get("Content-Type")?.startsWith("application/problem+json");
  return isProblem ? response.json().catch(() => fallback) : fallback;
}
