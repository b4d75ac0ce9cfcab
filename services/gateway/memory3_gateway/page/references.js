// The references of the chosen bank: pages, search, adding, correcting, erasing.

import * as api from "./api.js";
import { attempt, byId, confirmIn, element } from "./dom.js";

export class References {
  constructor(bank, changed) {
    this.bank = bank;
    this.changed = changed;
    this.tokens = [""];
    byId("next").addEventListener("click", () => this.turn(1));
    byId("previous").addEventListener("click", () => this.turn(-1));
    byId("search").addEventListener("submit", (event) => {
      event.preventDefault();
      attempt(() => this.search());
    });
    byId("add").addEventListener("submit", (event) => {
      event.preventDefault();
      attempt(() => this.add());
    });
  }

  // Begins at the first page, or searches again.
  async load() {
    if (!this.bank()) return this.show([], "");
    if (byId("query").value.trim()) return this.search();
    this.tokens = [""];
    return this.loadPage();
  }

  async loadPage() {
    const found = await api.page(this.bank(), this.tokens.at(-1));
    this.next = found.next_page_token;
    this.show(found.references.map((reference) => ({ reference })), this.next);
  }

  turn(step) {
    if (step > 0) this.tokens.push(this.next);
    else this.tokens.pop();
    return attempt(() => this.loadPage());
  }

  async search() {
    const query = byId("query").value.trim();
    if (!query) return this.load();
    const hits = await api.search(this.bank(), query);
    this.tokens = [""];
    return this.show(hits, "");
  }

  async add() {
    const text = byId("add-text");
    const added = await api.add(this.bank(), text.value, byId("add-source").value);
    const new_ = added.num_added ? `Added as ${added.num_added} reference(s).` : "It was there already.";
    text.value = "";
    await this.done(new_);
  }

  async done(message) {
    byId("done").textContent = message;
    await this.changed();
    await this.load();
  }

  show(items, next) {
    const rows = items.map(({ reference, score }) => this.row(reference, score));
    const empty = element("li", { className: "meta" }, this.bank() ? "Nothing here." : "Choose a bank.");
    byId("references").replaceChildren(...(rows.length ? rows : [empty]));
    byId("next").disabled = !next;
    byId("previous").disabled = this.tokens.length < 2;
  }

  row(reference, score) {
    const facts = [reference.source || "no source", `${reference.num_tokens} tokens`];
    if (score !== undefined) facts.push(`score ${score.toFixed(2)}`);
    const correct = element("button", { type: "button" }, "Correct");
    correct.addEventListener("click", () => attempt(() => this.correct(reference)));
    const erase = element("button", { type: "button", className: "danger" }, "Erase");
    erase.addEventListener("click", () => attempt(() => this.erase(reference)));
    return element("li", {},
      element("p", { className: "text" }, reference.text),
      element("p", { className: "meta" }, facts.join(" · ")),
      element("div", { className: "row" }, correct, erase));
  }

  async correct(reference) {
    const field = element("textarea", { id: "dialog-text", rows: 5, value: reference.text });
    const label = element("label", { for: "dialog-text" }, "What it is to say from now on");
    if (!(await confirmIn("Correct this reference", "Save", label, field))) return;
    await api.correct(this.bank(), reference.id, field.value);
    await this.done("Corrected. Ask again to see what changes.");
  }

  async erase(reference) {
    const box = element("input", { type: "checkbox", id: "dialog-bytes" });
    const label = element("label", { className: "check" }, box,
      "Also every byte of it, from files, caches and snapshots (slow for a large bank)");
    const text = element("p", { className: "text" }, reference.text);
    if (!(await confirmIn("Erase this reference?", "Erase", text, label))) return;
    const erased = await api.erase(this.bank(), reference.id, box.checked);
    const receipt = erased.receipt ? ` Receipt ${erased.receipt.sha256.slice(0, 16)}….` : "";
    await this.done(`Erased.${receipt} Ask again to see what changes.`);
  }
}
