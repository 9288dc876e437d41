// The page of all slides: what each came to, and how far its review is. It fills in while a scan runs.
import { toggleTheme } from "./theme.js";

const POLL_MS = 4000;
const SHOWN = 400;
const $ = (id) => document.getElementById(id);
let rows = null;

const ORDERS = {
  score: (a, b) => (b.score ?? -1) - (a.score ?? -1) || a.name.localeCompare(b.name),
  name: (a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }),
  lesions: (a, b) => b.lesions - a.lesions || a.name.localeCompare(b.name),
  open: (a, b) => (b.lesions - b.judged) - (a.lesions - a.judged) || a.name.localeCompare(b.name),
};
const isDone = (row) => row.state.state === "done";
const isReviewed = (row) => isDone(row) && row.judged >= row.lesions && (row.lesions > 0 || row.whole);
const FILTERS = {
  all: () => true,
  open: (row) => isDone(row) && !isReviewed(row),
  lesions: (row) => row.lesions > 0,
  negative: (row) => isDone(row) && row.lesions === 0,
  unfinished: (row) => !isDone(row),
};

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") made.className = value;
    else if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

function reviewText(row) {
  if (row.review_problem) return "the review cannot be read";
  const parts = [];
  if (row.lesions) parts.push(`${row.judged} of ${row.lesions} lesions reviewed`);
  if (row.drawn) parts.push(`${row.drawn} drawn`);
  if (row.whole) parts.push("whole slide looked at");
  return parts.join(", ") || "not reviewed";
}

function finding(row) {
  const state = row.state;
  if (state.state === "running") return state.planned ? `being scanned: ${percent(state)}` : "being scanned: its tissue is looked for";
  if (state.state === "stopped") return `stopped at ${percent(state)}; resume its scan with:`;
  if (state.state === "failed") return `failed: ${state.reason ?? ""}`;
  if (!isDone(row)) return "not scanned yet";
  if (row.verdict) return row.verdict;
  const size = row.largest_um ? `, the largest ${(row.largest_um / 1000).toFixed(2)} mm` : "";
  return `${row.category ?? "scanned"}: ${row.lesions} lesion${row.lesions === 1 ? "" : "s"}${size}`;
}

const share = ({ windows, planned }) => (planned ? windows / planned : 0);
const percent = (state) => `${Math.floor(100 * share(state))} %`;

function bar(part, kind = "") {
  const filled = element("i");
  filled.style.width = `${Math.round(100 * part)}%`;
  return element("div", { class: `bar ${kind}`, ariaHidden: "true" }, filled);
}

function line(row) {
  const address = `slides/${row.id}`;
  const picture = row.small
    ? element("img", { class: "thumb", src: `api/slides/${row.id}/small`, alt: "", loading: "lazy" })
    : element("span", { class: "thumb empty" });
  const reviewed = row.lesions ? row.judged / row.lesions : row.whole ? 1 : 0;
  const isOnItsWay = row.state.state === "running" || row.state.state === "stopped";
  const score = row.score === null || row.score === undefined ? "" : `${row.verdict ? "P(positive)" : "score"} ${row.score.toFixed(3)}`;
  return element("li", {},
    element("div", { class: "pic" }, picture),
    element("div", {}, element("a", { class: "name", href: address }, row.name), element("div", { class: "soft small" }, score)),
    element("div", {}, finding(row),
      row.not_judged && isDone(row) ? element("div", { class: "soft small" }, row.not_judged) : null,
      isOnItsWay ? bar(share(row.state), row.state.state) : null,
      row.state.resume ? element("code", {}, row.state.resume) : null),
    isDone(row) ? element("div", { class: "small" }, reviewText(row), bar(reviewed)) : element("div"));
}

function show() {
  const text = $("text").value.trim().toLowerCase();
  const shown = rows.filter((row) => row.name.toLowerCase().includes(text) && FILTERS[$("which").value](row));
  shown.sort(ORDERS[$("order").value]);
  $("slides").replaceChildren(...shown.slice(0, SHOWN).map(line));
  const done = rows.filter(isDone).length;
  const reviewed = rows.filter(isReviewed).length;
  const scanning = done < rows.length ? ` ${done} of ${rows.length} are scanned.` : "";
  const filtered = shown.length < rows.length ? ` ${shown.length} match.` : "";
  const more = shown.length > SHOWN ? ` The first ${SHOWN} are shown.` : "";
  $("export").classList.toggle("hidden", !rows.some((row) => row.judged || row.drawn || row.whole));
  const cautions = [...new Set(rows.map((row) => row.caution).filter(Boolean))];
  $("cautions").replaceChildren(...cautions.map((text) => element("p", { class: "caution small" }, `Slide operating point: ${text}`)));
  if (!rows.length) {
    $("summary").textContent = "The scan has not begun with its first slide yet. The page fills in.";
    return;
  }
  $("summary").textContent = `${rows.length} slide${rows.length === 1 ? "" : "s"}, ${reviewed} reviewed.${scanning}${filtered}${more}`;
}

async function load() {
  try {
    const answer = await fetch("api/slides");
    const content = await answer.json();
    const changed = JSON.stringify(content.slides) !== JSON.stringify(rows);
    rows = content.slides;
    $("title").textContent = `Slides in ${content.folder}`;
    if (changed) show();
  } catch {
    $("summary").textContent = "The viewer has stopped. Start it again with: sentinode view";
  }
}

for (const id of ["text", "which", "order"]) $(id).addEventListener("input", () => rows && show());
$("filters").addEventListener("submit", (event) => event.preventDefault());
$("theme").addEventListener("click", toggleTheme);
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && document.activeElement !== $("text")) {
    event.preventDefault();
    $("text").focus();
  }
});
load();
setInterval(() => { if (!document.hidden) load(); }, POLL_MS);
