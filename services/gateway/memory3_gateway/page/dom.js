// Elements made without markup: what a reference or an answer says is text and nothing else.

export const byId = (id) => document.getElementById(id);

export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith("aria-") || key === "for" || key === "role") made.setAttribute(key, value);
    else made[key] = value;
  }
  made.append(...children);
  return made;
}

export function showProblem(error) {
  const place = byId("problem");
  place.hidden = !error;
  place.textContent = error ? error.message : "";
}

// Shows a field that may be folded away, and lets a person write into it.
function reveal(id) {
  const folded = byId(id).closest("details");
  if (folded) folded.open = true;
  byId(id).focus();
}

// Runs what a person asked for, and shows what went wrong, and the field that would mend it.
export async function attempt(work) {
  showProblem(null);
  try {
    return await work();
  } catch (error) {
    if (error.name !== "AbortError") showProblem(error);
    if (error.field) reveal(error.field);
    return undefined;
  }
}

// Asks in a dialog; resolves to true if the person went on.
export function confirmIn(title, action, ...body) {
  const dialog = byId("dialog");
  byId("dialog-title").textContent = title;
  byId("dialog-ok").textContent = action;
  byId("dialog-body").replaceChildren(...body);
  dialog.returnValue = "cancel";
  dialog.showModal();
  dialog.querySelector("#dialog-body input, #dialog-body textarea")?.focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "ok"), { once: true });
  });
}
