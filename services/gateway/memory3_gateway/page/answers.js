// Answers side by side, and what each part of them read.

import { byId, element } from "./dom.js";

const SENTENCES = new Intl.Segmenter(undefined, { granularity: "sentence" });

export class Answer {
  constructor(question) {
    this.text = "";
    this.memories = null;
    this.heading = element("h3", {}, "Answer");
    this.said = element("p", { className: "said" });
    this.note = element("p", { className: "meta" });
    const asked = element("p", { className: "asked" }, question);
    this.box = element("article", { className: "answer" }, this.heading, asked, this.said, this.note);
  }

  // Shows it beside the answer before it.
  show() {
    const place = byId("answers");
    const before = [...place.querySelectorAll(".answer")].slice(-1);
    for (const box of before) {
      box.classList.add("old");
      box.querySelector("h3").textContent = "Before";
    }
    if (before.length) this.heading.textContent = "Now";
    place.replaceChildren(...before, this.box);
    byId("read").hidden = true;
  }

  feed(choice) {
    const text = choice.delta.content ?? "";
    this.text += text;
    this.said.append(text);
    if (choice.finish_reason) this.end(choice.memory3, choice.finish_reason);
  }

  end(memories, reason) {
    this.memories = memories;
    const ids = new Set(memories.chunks.flatMap((chunk) => chunk.references.map(({ id }) => id)));
    const read = ids.size ? `${ids.size} memories read` : "no memories read";
    const why = reason === "length" ? "; cut off at the limit of tokens" : "";
    const degraded = memories.degraded ? `; without some memories: ${memories.degraded_reason}` : "";
    this.note.textContent = `${read}, first word after ${Math.round(memories.time_to_first_token * 1000)} ms${why}${degraded}`;
    // Positions count code points, of which JavaScript's strings have one or two units each.
    const points = [...this.text];
    const parts = [];
    for (const chunk of memories.chunks) {
      if (chunk.text_start === undefined) continue;
      const text = points.slice(chunk.text_start, chunk.text_end).join("");
      for (const { segment } of SENTENCES.segment(text)) parts.push(this.part(segment, chunk));
    }
    if (parts.length) this.said.replaceChildren(...parts);
  }

  part(text, chunk) {
    const button = element("button", { type: "button", className: "part", "aria-pressed": "false" }, text);
    button.addEventListener("click", () => {
      for (const other of document.querySelectorAll(".part")) other.setAttribute("aria-pressed", "false");
      button.setAttribute("aria-pressed", "true");
      showRead(chunk);
    });
    return button;
  }
}

function showRead(chunk) {
  byId("read").hidden = false;
  byId("read-note").textContent = chunk.references.length
    ? "The bar shows the share of attention that went to each memory; the score says how well it matched."
    : "No references were attached here: this comes from the model's parameters and the question.";
  // The bars are as long as they compare; the largest is full.
  const most = Math.max(...chunk.references.map((each) => each.attention_mass), 1e-9);
  const byMass = [...chunk.references].sort((a, b) => b.attention_mass - a.attention_mass);
  byId("read-list").replaceChildren(...byMass.map((each) => readItem(each, most)));
  byId("read-heading").focus();
}

function readItem(attached, most) {
  const percent = (attached.attention_mass * 100).toFixed(1);
  const fill = element("div", { className: "fill" });
  fill.style.width = `${(100 * attached.attention_mass) / most}%`;
  const label = `attention ${percent} %`;
  const track = element("div", { className: "track", role: "img", "aria-label": label }, fill);
  const figures = `${percent} % · score ${attached.score.toFixed(2)}`;
  const reference = attached.reference;
  return element("li", {},
    element("div", { className: "mass" }, track, element("span", {}, figures)),
    element("p", { className: "text" }, reference ? reference.text : attached.id),
    element("p", { className: "meta" }, reference?.source || "no source"));
}
