// Requests to the server. A newer request of the same kind aborts the older one.

import { isStatic } from "./state.js";

const running = new Map();

export class Refused extends Error {
  constructor(status, about) {
    super(about.message);
    Object.assign(this, about);
    this.status = status;
  }
}

export async function get(what, query, options) {
  const { answer, body } = isStatic ? await local(what, query, { kind: what, ...options }) : await request(`/api/${what}`, query, { kind: what, ...options });
  if (!answer.ok || body.refused) throw new Refused(body.refused ?? answer.status, body);
  return body;
}

// Numbers of all galaxies, as an ArrayBuffer.
export async function getBytes(what, query, options) {
  const { answer, body } = await request(`/${what}`, query, { kind: what, ...options });
  if (!(body instanceof ArrayBuffer)) throw new Refused(body.refused ?? answer.status, body);
  return body;
}

async function local(what, query = new URLSearchParams(), { kind }) {
  const mine = Symbol(kind);
  running.set(kind, { mine, abort() {} });
  const body = await (await import("./static.js")).answer(what, query);
  if (running.get(kind).mine !== mine) throw new DOMException("A newer request follows.", "AbortError");
  return { answer: { ok: true }, body };
}

async function request(address, query = new URLSearchParams(), { kind }) {
  running.get(kind)?.abort();
  const abort = new AbortController();
  running.set(kind, abort);
  const text = String(query);
  try {
    const answer = await fetch(`${address}${text ? `?${text}` : ""}`, { signal: abort.signal, headers: { "x-gzoo-page": "1" } });
    // a newer request still aborts this one: an older answer never follows a newer one
    const isJson = answer.headers.get("content-type") === "application/json";
    return { answer, body: isJson ? await answer.json() : await answer.arrayBuffer() };
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, { message: "The server does not answer.", hint: "Run `gzoo explore` again, then reload this page." });
  } finally {
    if (running.get(kind) === abort) running.delete(kind);
  }
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
