// Requests to the gateway. Errors are thrown with the message that the gateway gives.

const TOKEN = "memory3-token";

export const token = {
  get: () => sessionStorage.getItem(TOKEN) ?? "",
  set: (value) =>
    value ? sessionStorage.setItem(TOKEN, value) : sessionStorage.removeItem(TOKEN),
};

// Nobody was told who asks. What the gateway says to programs is no help to a person here.
export class TokenNeeded extends Error {
  constructor(given) {
    super(given ? "This token is not accepted here, or has expired. Give another one above."
      : "A token is needed here. Give yours above; whoever runs this gateway makes them.");
    this.field = "token";
  }
}

async function send(method, path, body, signal) {
  const headers = {};
  if (body !== undefined) headers["content-type"] = "application/json";
  if (token.get()) headers.authorization = `Bearer ${token.get()}`;
  const payload = body === undefined ? undefined : JSON.stringify(body);
  const response = await fetch(path, { method, headers, body: payload, signal });
  if (response.ok) return response;
  if (response.status === 401) throw new TokenNeeded(token.get());
  const told = await response.json().catch(() => null);
  throw new Error(told?.error?.message ?? `the gateway answered ${response.status}`);
}

const json = async (...given) => (await send(...given)).json();
const at = (bank) => `/api/banks/${encodeURIComponent(bank)}`;
const one = (bank, id) => `${at(bank)}/references/${encodeURIComponent(id)}`;

export const status = () => json("GET", "/api/status");
export const banks = async () => (await json("GET", "/api/banks")).banks;
export const createBank = (name) => json("POST", "/api/banks", { name });
export const page = (bank, pageToken) =>
  json("GET", `${at(bank)}/references?${new URLSearchParams({ page_size: 10, page_token: pageToken })}`);
export const search = async (bank, query) =>
  (await json("GET", `${at(bank)}/search?${new URLSearchParams({ q: query, k: 10 })}`)).hits;
export const add = (bank, text, source) =>
  json("POST", `${at(bank)}/references`, { text, source });
export const correct = (bank, id, text) => json("PUT", one(bank, id), { text });
export const erase = (bank, id, everyByte) =>
  json("DELETE", `${one(bank, id)}?every_byte=${everyByte}`);

// Asks a question; yields the pieces of the answer as they come.
export async function* ask(model, bank, question, maxTokens, signal) {
  const memory3 = { bank, report: true, with_references: true };
  const messages = [{ role: "user", content: question }];
  const body = { model, messages, max_completion_tokens: maxTokens, stream: true, memory3 };
  const response = await send("POST", "/v1/chat/completions", body, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const data = event.replace(/^data: /, "");
      if (data === "[DONE]") return;
      const piece = JSON.parse(data);
      if (piece.error) throw new Error(piece.error.message);
      if (piece.choices.length) yield piece.choices[0];
    }
  }
}
