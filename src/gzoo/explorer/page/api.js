// Requests to the server. A newer request of the same kind aborts the older one.

const running = new Map();

export class Refused extends Error {
  constructor(status, about) {
    super(about.message);
    Object.assign(this, about);
    this.status = status;
  }
}

export async function get(what, query = new URLSearchParams(), { kind = what } = {}) {
  running.get(kind)?.abort();
  const abort = new AbortController();
  running.set(kind, abort);
  const text = String(query);
  let answer;
  let body;
  try {
    answer = await fetch(`/api/${what}${text ? `?${text}` : ""}`, { signal: abort.signal, headers: { "x-gzoo-page": "1" } });
    body = await answer.json(); // a newer request still aborts this one: an older answer never follows a newer one
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, { message: "The server does not answer.", hint: "Run `gzoo explore` again, then reload this page." });
  } finally {
    if (running.get(kind) === abort) running.delete(kind);
  }
  if (!answer.ok || body.refused) throw new Refused(body.refused ?? answer.status, body);
  return body;
}

export const isAbort = (error) => error.name === "AbortError";

// The one request that changes something: the class of some galaxies.
export async function label(labelling, rows, name) {
  const answer = await fetch("/api/labels", {
    method: "POST",
    headers: { "content-type": "application/json", "x-gzoo-token": labelling.token },
    body: JSON.stringify({ rows, class: name }),
  });
  const body = await answer.json();
  if (!answer.ok) throw new Refused(answer.status, body);
  return body;
}
