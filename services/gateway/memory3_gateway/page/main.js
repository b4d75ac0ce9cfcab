// Puts the page together: the state of the services, banks, asking.

import * as api from "./api.js";
import { Answer } from "./answers.js";
import { attempt, byId, confirmIn, element, showProblem } from "./dom.js";
import { References } from "./references.js";

const STATUS_MS = 10000;
let model = "";
let asking = null;

const bank = () => byId("bank").value;
const references = new References(bank, () => loadBanks(bank()));

async function loadStatus() {
  const status = await api.status();
  const items = status.services.map(({ service, health, info, error }) => {
    const facts = info ? ` ${detail(service, info)} ` : ` ${error ?? health}`;
    const item = element("li", {}, service, facts);
    if (info) {
      const { digest, name } = info.checkpoint;
      const code = element("code", { title: `${name}, ${digest}` }, digest.slice(0, 8));
      item.append(code);
    }
    item.classList.toggle("ready", health === "ready" && !error);
    return item;
  });
  if (!status.one_checkpoint) items.push(element("li", {}, "the services have different checkpoints"));
  byId("services").replaceChildren(...items);
  model = status.services[0].info?.checkpoint.name ?? "";
}

function detail(service, info) {
  if (service === "decoder") return `${info.num_running} of ${info.num_slots} slots`;
  if (service === "retriever") return info.num_banks === 1 ? "1 bank" : `${info.num_banks} banks`;
  return info.embedder;
}

async function loadBanks(chosen) {
  const found = await api.banks();
  const options = found.map(({ name, statistics }) =>
    new Option(`${name} (${statistics?.num_references ?? 0} references)`, name));
  byId("bank").replaceChildren(...options, new Option("no bank: the model alone", ""));
  byId("bank").value = found.some(({ name }) => name === chosen) ? chosen : (found[0]?.name ?? "");
  const counts = found.find(({ name }) => name === bank())?.statistics;
  byId("count").textContent = counts
    ? `${counts.num_references} in ${bank()}, ${counts.num_memories} memories written` : "";
  for (const field of document.querySelectorAll("#add button, #search button")) field.disabled = !bank();
}

async function ask() {
  asking = new AbortController();
  byId("stop").disabled = false;
  byId("answers").setAttribute("aria-busy", "true");
  const question = byId("question").value;
  const answer = new Answer(question);
  answer.show();
  try {
    if (!model) await loadStatus();
    const tokens = Number(byId("max-tokens").value);
    for await (const choice of api.ask(model, bank(), question, tokens, asking.signal)) answer.feed(choice);
  } finally {
    byId("stop").disabled = true;
    byId("answers").setAttribute("aria-busy", "false");
  }
}

async function newBank() {
  const field = element("input", { type: "text", id: "dialog-name", required: true, pattern: "[a-z][a-z0-9\\-]{0,62}" });
  const label = element("label", { for: "dialog-name" }, "Name: a-z, 0-9 and -, a letter first");
  if (!(await confirmIn("New bank", "Make it", label, field))) return;
  await api.createBank(field.value);
  await loadBanks(field.value);
  await references.load();
}

async function loadAll() {
  await loadStatus();
  await loadBanks(bank());
  await references.load();
}

byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  asking?.abort();
  attempt(ask);
});
byId("question").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey) {
    event.preventDefault();
    byId("ask").requestSubmit();
  }
});
byId("stop").addEventListener("click", () => asking?.abort());
byId("new-bank").addEventListener("click", () => attempt(newBank));
byId("bank").addEventListener("change", () => attempt(async () => {
  await loadBanks(bank());
  await references.load();
}));
byId("token").value = api.token.get();
byId("token").addEventListener("change", () => {
  api.token.set(byId("token").value.trim());
  attempt(async () => {
    await loadAll();
    byId("token").closest("details").open = false;
  });
});
setInterval(() => loadStatus().catch(showProblem), STATUS_MS);
attempt(loadAll);
