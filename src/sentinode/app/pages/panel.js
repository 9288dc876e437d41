// The lists beside the slide: lesions by score, and what was drawn.

const SHOWN = 300;
const COLOURS = { macrometastasis: "#d55e00", micrometastasis: "#e69f00", "isolated tumour cells": "#56b4e9" };
const $ = (id) => document.getElementById(id);

export const verdictText = (judged) => (!judged?.verdict ? "" : judged.label ?? judged.verdict);

function dot(colour) {
  const made = document.createElement("span");
  made.className = "dot";
  made.style.background = colour;
  return made;
}

function span(text, kind = "") {
  return Object.assign(document.createElement("span"), { textContent: text, className: kind });
}

export class Panel {
  constructor({ positive, onChoose, onErase }) {
    Object.assign(this, { positive, onChoose, onErase });
    this.all = false;
    this.buttons = new Map();
    $("more").addEventListener("click", () => { this.all = true; this.fill(this.lesions, this.review, this.uncertain); });
  }

  fill(lesions, review, uncertain) {
    Object.assign(this, { lesions, review, uncertain });
    const shown = this.all ? lesions : lesions.slice(0, SHOWN);
    this.buttons = new Map();
    $("lesions").replaceChildren(...shown.map((lesion) => this.line(lesion)));
    $("uncertain").replaceChildren(...uncertain.map((region) => this.line(region)));
    $("uncertain-title").classList.toggle("hidden", uncertain.length === 0);
    $("more").classList.toggle("hidden", shown.length === lesions.length);
    $("more").textContent = `Show all ${lesions.length} lesions`;
    this.update(review, this.chosen);
  }

  line(lesion) {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    const size = lesion.diameter_um ? `${(lesion.diameter_um / 1000).toFixed(2)} mm` : "";
    const mark = span("", "mark");
    const score = lesion.score === null || lesion.score === undefined ? "" : lesion.score.toFixed(3);
    const more = span("", "unseen"); // for those who hear the list
    button.append(dot(COLOURS[lesion.category.toLowerCase()] ?? "#999"), span(lesion.name), mark, span(`${score} · ${size}`, "soft small"), more);
    button.title = lesion.category;
    button.addEventListener("click", () => this.onChoose(lesion.id));
    this.buttons.set(lesion.id, { button, mark, more, name: lesion.category });
    item.append(button);
    return item;
  }

  update(review, chosen) {
    this.review = review;
    this.chosen = chosen;
    for (const [id, { button, mark, more, name }] of this.buttons) {
      const judged = review.judged[id];
      const isOpen = !verdictText(judged) && !id.startsWith("uncertain");
      mark.textContent = verdictText(judged);
      mark.className = `mark ${judged?.verdict ?? ""}`;
      button.classList.toggle("chosen", id === chosen);
      button.setAttribute("aria-current", id === chosen ? "true" : "false");
      more.textContent = `, ${[name, isOpen ? "not reviewed" : ""].filter(Boolean).join(", ")}`;
    }
    const count = this.lesions.filter((lesion) => review.judged[lesion.id]?.verdict).length;
    $("progress").textContent = this.lesions.length ? `${count} of ${this.lesions.length} reviewed` : "none found";
    this.drawings(review.drawings, chosen);
  }

  drawings(drawings, chosen) {
    $("drawings-title").classList.toggle("hidden", drawings.length === 0);
    $("drawings").replaceChildren(...drawings.map((drawing, i) => {
      const item = document.createElement("li");
      const go = document.createElement("button");
      go.type = "button";
      go.className = drawing.id === chosen ? "go chosen" : "go";
      const name = drawing.meaning === "tumour" ? this.positive : drawing.label ?? `no ${this.positive}`;
      go.setAttribute("aria-current", drawing.id === chosen ? "true" : "false");
      go.append(dot(drawing.meaning === "tumour" ? "#d55e00" : "#007a5a"), span(`${i + 1}: ${name}`), span(""), span(drawing.who, "soft small"));
      go.addEventListener("click", () => this.onChoose(drawing.id));
      const erase = Object.assign(document.createElement("button"), { type: "button", textContent: "×", title: "Remove" });
      erase.setAttribute("aria-label", `Remove drawing ${i + 1}`);
      erase.addEventListener("click", () => this.onErase(drawing.id));
      item.append(go, erase);
      return item;
    }));
  }

  reveal(id) {
    if (!this.buttons.has(id)) document.querySelector("#drawings .chosen")?.scrollIntoView({ block: "nearest" });
    this.buttons.get(id)?.button.scrollIntoView({ block: "nearest" });
  }
}
