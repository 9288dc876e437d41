// A slide's page: deep zoom of the slide, its map over it, its lesions, and their review.
import { DrawingTool } from "./drawing.js";
import { EditingTool } from "./editing.js";
import { describeKeys, listenToKeys } from "./keys.js";
import { COLOUR_MAPS, ProbabilityMap, colourBar } from "./map.js";
import { Overlay } from "./overlay.js";
import { Panel, verdictText } from "./panel.js";
import { ReviewClient } from "./review.js";
import { toggleTheme } from "./theme.js";

const $ = (id) => document.getElementById(id);
const BLANK = "data:image/gif;base64,R0lGODlhAQABAIAAAP///wAAACH5BAAAAAAALAAAAAABAAEAAAICRAEAOw==";
const CLOSEST_UM = 400; // a lesion is shown with at least so much around it
const SCAN_POLL_MS = 3000;
const TOAST_MS = 5000;
const api = `../api/slides/${location.pathname.split("/").at(-1)}`;

const page = { about: null, viewer: null, overlay: null, map: null, tool: null, review: null, panel: null, chosen: null };
globalThis.sentinode = page; // for tests, and for those who look behind it

async function start() {
  const answer = await fetch(api);
  if (!answer.ok) return notice("There is no such slide.");
  page.about = await answer.json();
  const about = page.about;
  $("name").textContent = about.map?.slide ?? about.name;
  document.title = `${$("name").textContent} - Sentinode`;
  const verdict = about.verdict ?? (about.category ? `${about.category}, score ${about.score?.toFixed(3) ?? "-"}` : "");
  $("verdict").textContent = [verdict, about.not_judged].filter(Boolean).join(" ");
  page.positive = about.classes[1];
  describeKeys($("keys"), about.labels, page.positive);
  if (about.scan.state !== "done" && !about.map) return waitForScan(about);
  if (about.problem && !about.map) return notice(about.problem);
  tellProblems(about);
  openSlide(about);
  page.overlay = new Overlay(page.viewer, $("overlay"), about.map);
  page.overlay.lesions = about.lesions;
  about.uncertain = about.uncertain.map(asRegion);
  page.overlay.uncertain = about.uncertain;
  setUpReview(about);
  wire();
  legend();
  aboutText();
  await loadMap(about);
  if (about.scan.state !== "done") watchScan(about.scan);
  document.body.dataset.ready = "true";
}

function waitForScan(about) {
  $("notice").replaceChildren();
  document.body.classList.add("waiting");
  const { state, resume, reason } = about.scan;
  const text = state === "running" ? "This slide is being scanned: its tissue is looked for. The page fills in as soon as there is a window."
    : state === "stopped" ? `The scan of this slide was stopped before its first window. Resume it with:\n${resume}`
    : state === "failed" ? `The scan of this slide failed.\n${reason ?? ""}` : "This slide has not been scanned yet.";
  notice(text, state === "running");
  setTimeout(async () => {
    const next = await fetch(api).then((answer) => answer.json()).catch(() => about);
    if (next.scan.state === "done" || next.map) location.reload();
    else waitForScan(next);
  }, SCAN_POLL_MS);
}

// A scan on its way: its progress, and its map as it grows. Numbers alone are asked for.
function watchScan(scan) {
  showScan(scan);
  let told = scan.windows;
  let pause = SCAN_POLL_MS;
  const look = async () => {
    const now = document.hidden ? null : await fetch(`${api}/progress`).then((answer) => answer.json()).catch(() => null);
    if (now && (now.state === "done" || now.state === "failed")) return reloadHere();
    if (now) showScan(now);
    if (now && now.windows !== told) {
      const begun = performance.now();
      await loadMap(page.about, true);
      told = now.windows;
      pause = Math.max(SCAN_POLL_MS, 10 * (performance.now() - begun)); // a large map leaves the hand free to move
    }
    setTimeout(look, pause);
  };
  setTimeout(look, pause);
}

function showScan({ state, windows, planned, resume }) {
  const share = planned ? windows / planned : 0;
  const percent = `${Math.floor(100 * share)} %`;
  const isStopped = state === "stopped";
  document.body.classList.add("scanning");
  $("scanning").classList.remove("hidden");
  $("scanned").value = share;
  $("scanning-title").textContent = isStopped ? `Stopped at ${percent}` : `Being scanned: ${percent}`;
  const count = `${windows.toLocaleString("en")} of ${planned.toLocaleString("en")} windows are read.`;
  $("scan-text").textContent = isStopped ? `${count} Nobody is at this slide. Resume its scan with:`
    : windows === planned ? "Every window is read. The lesions and files are being written." : `${count} The map fills in.`;
  $("resume").classList.toggle("hidden", !isStopped);
  $("resume").textContent = resume ?? "";
  $("verdict").textContent = isStopped ? `stopped at ${percent}` : `being scanned: ${percent}`;
}

// Load the page again, at the same place of the slide.
function reloadHere() {
  const viewport = page.viewer.viewport;
  const { x, y } = viewport.getCenter();
  try { sessionStorage.setItem(location.pathname, JSON.stringify([x, y, viewport.getZoom(), viewport.getRotation()])); } catch { /* a private window keeps nothing */ }
  location.reload();
}

function returnHere() {
  let place = null;
  try {
    place = JSON.parse(sessionStorage.getItem(location.pathname));
    sessionStorage.removeItem(location.pathname);
  } catch { /* likewise */ }
  if (!place) return;
  const [x, y, zoom, rotation] = place;
  page.viewer.viewport.setRotation(rotation, true);
  page.viewer.viewport.zoomTo(zoom, null, true);
  page.viewer.viewport.panTo(new OpenSeadragon.Point(x, y), true);
}

function notice(text, isInfo = false) {
  const line = Object.assign(document.createElement("p"), { textContent: text, className: isInfo ? "info" : "" });
  const close = Object.assign(document.createElement("button"), { type: "button", textContent: "Close" });
  close.addEventListener("click", () => line.remove());
  line.prepend(close);
  $("notice").append(line);
}

function tellProblems(about) {
  if (about.problem) notice(about.tiles ? about.problem : `Only the map is shown, without its slide.\n${about.problem}`);
  if (about.point.caution) {
    $("caution").textContent = about.point.caution;
    $("caution").classList.remove("hidden");
  }
  if (about.read_only && about.scan.state === "done") notice(`A review cannot be saved here: ${about.read_only}`, true);
  const here = new Set(about.lesions.map((lesion) => lesion.id));
  const earlier = Object.entries(about.review.judged).filter(([id, one]) => one.verdict && !here.has(id)).length;
  if (earlier) notice(`${earlier} verdict${earlier === 1 ? " is on a lesion" : "s are on lesions"} of an earlier scan. They are kept in review.geojson, and say nothing of the lesions here.`, true);
  for (const text of about.notes) notice(text, true);
}

// The slide, in tiles of the server's; a white one of its size where it cannot be shown.
function openSlide(about) {
  const { padded: [width, height], levels, tile, overlap } = about.map;
  page.viewer = OpenSeadragon({
    element: $("viewer"),
    drawer: "canvas",
    showNavigationControl: false,
    showNavigator: true,
    navigatorPosition: "TOP_RIGHT",
    navigatorSizeRatio: 0.16,
    navigatorAutoFade: false,
    navigatorDisplayRegionColor: "#e6007a",
    animationTime: matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 0.6,
    blendTime: 0.1,
    maxZoomPixelRatio: 8,
    minZoomImageRatio: 0.6,
    visibilityRatio: 0.3,
    imageLoaderLimit: 6,
    maxImageCacheCount: 400,
    gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
    tileSources: {
      width, height, tileSize: tile, tileOverlap: overlap, minLevel: 0, maxLevel: levels - 1,
      getTileUrl: (level, column, row) => (about.tiles ? `${api}/tiles/${about.tiles}/${level}/${column}/${row}` : BLANK),
    },
  });
  page.viewer.canvas.append($("overlay")); // above the slide, below the minimap
  page.viewer.addHandler("canvas-key", (event) => { event.preventDefaultAction = true; });
  let told = false;
  page.viewer.addHandler("tile-load-failed", async () => {
    if (told) return;
    told = true;
    const now = await fetch(api).then((answer) => answer.json()).catch(() => null);
    notice(`A part of the slide cannot be shown: ${now?.problem ?? now?.damage ?? "the viewer does not answer. Start it again with: sentinode view"}`);
  });

  page.viewer.addHandler("update-viewport", showScale);
  page.viewer.addHandler("open", () => { returnHere(); showScale(); });
}

// Fetch the map; ``isAgain`` keeps what the controls were set to.
async function loadMap(about, isAgain = false) {
  const answer = await fetch(`${api}/map`);
  if (!answer.ok) return notice("The map cannot be read.");
  const codes = about.reasons ? await fetch(`${api}/quality`) : null;
  page.map = new ProbabilityMap({ ...about.map, reasons: about.reasons }, await answer.arrayBuffer(), codes?.ok ? new Uint8Array(await codes.arrayBuffer()) : null);
  page.overlay.map = page.map;
  page.overlay.absent = page.map.absent();
  page.overlay.pending = page.map.pending();
  if (!isAgain) resetControls();
  else if (page.map.sigma !== Number($("smoothing").value)) page.map.smooth(Number($("smoothing").value));
  recolour();
  showPointer(...page.tool.middle());
}

const level = () => Number($("threshold").value);

function recolour() {
  const overlay = page.overlay;
  overlay.heat = page.map.picture(level(), $("colours").value);
  const { lines, regions } = page.map.outlines(level());
  overlay.lines = lines;
  page.regions = regions;
  $("regions").textContent = `${regions} region${regions === 1 ? "" : "s"} above the threshold`;
  const p = page.map.probability(level());
  output("threshold", `P ${p.toPrecision(2)}`);
  output("smoothing", `${$("smoothing").value} µm`);
  ticks();
  cover();
}

function cover() {
  const overlay = page.overlay;
  overlay.opacity = Number($("opacity").value);
  output("opacity", `${Math.round(100 * overlay.opacity)} %`);
  colourBar($("colourbar"), $("colours").value, overlay.opacity);
  overlay.request();
}

function output(id, text) {
  document.querySelector(`output[for="${id}"]`).textContent = text;
  $(id).setAttribute("aria-valuetext", text);
}

function ticks() {
  const cut = page.map.probability(level());
  const logit = (p) => Math.log(p / (1 - p));
  $("ticks").replaceChildren(...[0.1, 0.5, 0.9].map((place) => {
    const p = 1 / (1 + Math.exp(-(logit(place) + logit(cut))));
    const text = Object.assign(document.createElement("span"), { textContent: place === 0.5 ? `threshold ${p.toPrecision(2)}` : p.toPrecision(2) });
    text.style.left = `${100 * place}%`;
    return text;
  }));
}

function resetControls() {
  $("threshold").value = 0.5;
  const { sigma_um: sigma } = page.about.map.rule;
  $("smoothing").value = sigma;
  if (page.map.sigma !== sigma) page.map.smooth(sigma);
}

function legend() {
  const { prior, stride, mpp } = page.about.map;
  const items = [
    ["", `Colour: P(${page.positive}), corrected to a prior of ${+(100 * prior).toPrecision(3)} % of the windows of tissue`],
    ["#111118", "Outline: regions above the threshold"],
    ["#d55e00", `Accepted, or drawn as ${page.positive}`], ["#007a5a", `Rejected, or drawn as no ${page.positive}`], ["#a64d8f", "Unsure; dashed: uncertain to the scan"],
    ["#8c8c98", `Not judged: no tissue found there (a window each ${(stride * mpp).toFixed(1)} µm)`],
  ];
  if (page.about.scan.state !== "done") items.push(["#464b69", "Veil: not scanned yet"]);
  if (page.about.reasons) items.push(["#e69f00", "Not judged: the picture does not suit (blur, ink, folds)"]);
  $("key").replaceChildren(...items.map(([colour, text]) => {
    const item = document.createElement("li");
    if (colour) {
      const patch = document.createElement("i");
      patch.style.background = colour;
      item.append(patch);
    }
    item.append(text);
    return item;
  }));
}

function aboutText() {
  const { engine, bundle, rule } = page.about.map;
  const { name, target, chosen_on: chosenOn } = page.about.point;
  const point = name ? ` They are found by the ${name} operating point${target ? `: ${target}` : ""}. It was chosen on: ${chosenOn}.` : "";
  if (page.about.scan.state !== "done") {
    $("about").textContent = `For research, not for diagnosis. Regions are outlined from P ${rule.cut.toPrecision(3)} on, smoothed by ${rule.sigma_um} µm. Bundle ${bundle}, ${engine}.`;
    return;
  }
  $("about").textContent = `For research, not for diagnosis. The lesions are those that the scan found: outlined from P ${rule.cut.toPrecision(3)} on, smoothed by ${rule.sigma_um} µm.${rule.on === "log-odds" ? " Outlined regions that are not in the list did not reach its operating point." : ""} Moving the threshold and the smoothing here changes what you see, and not the list.${point} Bundle ${bundle}, ${engine}.`;
}

function showScale() {
  const viewport = page.viewer.viewport;
  if (!viewport || !page.overlay) return;
  const pixel = page.about.map.mpp / Math.hypot(...page.overlay.transform().slice(0, 2)); // microns a pixel of the screen
  $("magnification").textContent = `${(10 / pixel).toPrecision(2)}× · ${pixel < 10 ? pixel.toPrecision(2) : Math.round(pixel)} µm a pixel`;
  const wanted = 130 * pixel;
  const power = 10 ** Math.floor(Math.log10(wanted));
  const length = power * [5, 2, 1].find((step) => power * step <= wanted);
  const [line, text] = $("scalebar").children;
  line.style.width = `${length / pixel}px`;
  text.textContent = length >= 1000 ? `${length / 1000} mm` : `${length} µm`;
  page.micronsPerPixel = pixel;
}

function showPointer(x, y) {
  const { width, height } = page.about.map;
  const isInside = x >= 0 && y >= 0 && x < width && y < height;
  $("pointer").classList.toggle("hidden", !isInside);
  if (!isInside) return;
  const found = page.map?.at(x, y);
  const text = !found ? "" : found.reason ? `not judged: ${found.reason}` : `P ${found.raw.toPrecision(3)} · smoothed ${found.smoothed.toPrecision(3)}`;
  $("pointer").textContent = [`x ${Math.floor(x)}  y ${Math.floor(y)}`, text].filter(Boolean).join(" · ");
}

// Choosing and judging

const everything = () => [...page.about.lesions, ...page.about.uncertain, ...(page.review?.state.drawings ?? [])];

// An uncertain region; a circle where only its middle and its length are known.
function asRegion({ number, score, diameter_um: diameter, centroid_x: x, centroid_y: y, rings }) {
  const radius = diameter / 2 / page.about.map.mpp;
  const ring = Array.from({ length: 32 }, (_, i) => [x + radius * Math.cos((i * Math.PI) / 16), y + radius * Math.sin((i * Math.PI) / 16)]);
  return { id: `uncertain ${number}`, name: `Region ${number}`, score, diameter_um: diameter, category: "uncertain", rings: rings.length ? rings : [ring] };
}

function choose(id, glide = true) {
  if (page.editor.active) page.editor.end(true);
  page.chosen = id;
  const region = everything().find((one) => one.id === id);
  page.overlay.chosen = region ? id : null;
  page.panel.update(page.review.state, id);
  page.panel.reveal(id);
  showChosen();
  if (region && glide) glideTo(region);
  page.overlay.request();
}

function glideTo(region) {
  const { mpp, padded: [width] } = page.about.map;
  const points = region.rings.flat();
  const span = (axis) => points.reduce(([low, high], point) => [Math.min(low, point[axis]), Math.max(high, point[axis])], [Infinity, -Infinity]);
  const [[left, right], [top, bottom]] = [span(0), span(1)];
  const side = Math.max(1.6 * (right - left), 1.6 * (bottom - top), CLOSEST_UM / mpp);
  const box = [(left + right - side) / 2, (top + bottom - side) / 2, side, side].map((value) => value / width);
  page.viewer.viewport.fitBounds(new OpenSeadragon.Rect(...box));
}

const drawnAs = ({ meaning, label }) => (meaning === "tumour" ? page.positive : label ?? `no ${page.positive}`);

function showChosen() {
  const state = page.review.state;
  const region = everything().find((one) => one.id === page.chosen);
  const judged = state.judged[page.chosen];
  const isDrawing = Boolean(region && "meaning" in region);
  const isLesion = page.about.lesions.includes(region);
  const remarks = isDrawing ? region : judged;
  $("selected").textContent = !region ? "no lesion chosen" : isDrawing ? `drawn: ${drawnAs(region)}` : `${region.name}${judged?.verdict ? `: ${verdictText(judged)}` : ""}`;
  $("state").textContent = region ? $("selected").textContent : ""; // seen in full screen, where there is no panel
  $("comment").disabled = !(isLesion || isDrawing) || Boolean(page.about.read_only);
  if (document.activeElement !== $("comment")) $("comment").value = remarks?.comment ?? "";
  $("label").value = remarks?.label ?? "";
  const verdictNow = !isDrawing ? judged?.verdict : region.meaning === "tumour" ? "accepted" : "rejected";
  for (const [name, verdict] of [["accept", "accepted"], ["reject", "rejected"], ["unsure", "unsure"]]) {
    const button = document.querySelector(`[data-do="${name}"]`);
    button.disabled = !region || (verdict === "unsure" && !isLesion) || Boolean(page.about.read_only);
    button.setAttribute("aria-pressed", String(verdictNow === verdict));
  }
  $("label").disabled = !region || Boolean(page.about.read_only);
  $("edit").disabled = !isDrawing || Boolean(page.about.read_only);
  document.querySelector('[data-do="clear"]').disabled = !judged?.verdict || Boolean(page.about.read_only);
}

function judge(verdict, label = null) {
  const region = everything().find((one) => one.id === page.chosen);
  if (!region) return status("Choose a lesion first: n", true);
  if (!mayReview()) return;
  if (!page.about.lesions.includes(region)) return judgeRegion(region, verdict, label);
  page.review.add({ kind: "judge", lesion: page.chosen, verdict, label });
  if (verdict && $("goOn").checked) step(1);
}

// An uncertain region is no lesion of the scan: to judge it draws its outline. A drawing changes its meaning.
function judgeRegion(region, verdict, label) {
  if (verdict !== "accepted" && verdict !== "rejected") return status("Accept or reject it: only lesions can be unsure.", true);
  const meaning = verdict === "accepted" ? "tumour" : "normal";
  if ("meaning" in region) {
    if (region.meaning !== meaning || region.label !== label) page.review.add({ kind: "redraw", drawing: region.id, meaning, label });
    return;
  }
  const [ring] = [...region.rings].sort((one, other) => other.length - one.length);
  page.chosen = page.overlay.chosen = page.review.add({ kind: "draw", meaning, label, points: ring });
}

function mayReview() {
  if (page.about.read_only) status(`A review cannot be saved here: ${page.about.read_only}`, true);
  return !page.about.read_only;
}

function step(by, isOpen = () => true) {
  const lesions = everything();
  if (!lesions.length) return status(page.about.scan.state === "done" ? "The scan found no lesion." : "Lesions come when the scan is done.", false);
  let at = lesions.findIndex((lesion) => lesion.id === page.chosen);
  for (let i = 0; i < lesions.length; i++) {
    at = at < 0 ? (by > 0 ? 0 : lesions.length - 1) : (at + by + lesions.length) % lesions.length;
    if (isOpen(lesions[at])) return choose(lesions[at].id);
  }
  status("Every lesion is reviewed.", false);
}

function status(text, isTrouble) {
  $("saved").textContent = text;
  $("saved").classList.toggle("trouble", isTrouble);
  // Where the panel is out of sight, as in full screen, it is said over the slide.
  const { top, bottom } = $("saved").getBoundingClientRect();
  const isSeen = !document.fullscreenElement && bottom > top && top < innerHeight && bottom > 0;
  clearTimeout(page.toast);
  $("toast").textContent = text;
  $("toast").classList.toggle("hidden", isSeen || !text);
  page.toast = setTimeout(() => $("toast").classList.add("hidden"), TOAST_MS);
}

function setUpReview(about) {
  for (const id of ["label", "meaning"]) {
    for (const option of $(id).options) option.textContent = option.value === "tumour" ? page.positive : option.value ? `no ${page.positive}` : "no reason given";
  }
  page.panel = new Panel({
    positive: page.positive,
    onChoose: (id) => choose(id),
    onErase: (id) => { if (mayReview()) page.review.add({ kind: "erase", drawing: id }); },
  });
  page.review = new ReviewClient(`${api}/review`, about.review, {
    onState: (state) => {
      page.overlay.judged = state.judged;
      page.overlay.drawings = state.drawings;
      if (page.chosen && !everything().some((one) => one.id === page.chosen)) page.chosen = page.overlay.chosen = null;
      page.panel.update(state, page.chosen);
      $("whole").checked = state.whole;
      showExport(state);
      showChosen();
      page.overlay.request();
    },
    onStatus: status,
  });
  $("columns-named").classList.toggle("hidden", !about.lesions.some((lesion) => lesion.is_probability));
  page.panel.fill(about.lesions, about.review, about.uncertain);
  $("label").append(...about.labels.map((label, i) => Object.assign(document.createElement("option"), { value: label, textContent: `${label} (${i + 1})` })));
  $("meaning").append(...about.labels.map((label) => new Option(`no ${page.positive}: ${label}`, `normal: ${label}`)));
  page.review.onState(about.review);
  if (about.read_only) for (const id of ["polygon", "brush", "whole"]) $(id).disabled = true;
}

function showExport(state) {
  const isThere = state.drawings.length > 0 || state.whole || Object.values(state.judged).some((one) => one.verdict || one.comment);
  $("export").classList.toggle("hidden", !isThere);
  $("export").href = `${api}/export`;
}

// Controls, pointer and keys

const pressed = (id, isOn) => $(id).setAttribute("aria-pressed", String(isOn));

function toggle(name, id) {
  page.overlay.show[name] = !page.overlay.show[name];
  pressed(id, page.overlay.show[name]);
  page.overlay.request();
}

function setCurtain(share) {
  page.overlay.curtain = share;
  $("curtain").classList.toggle("hidden", share === null);
  pressed("curtained", share !== null);
  if (share !== null) {
    $("curtain").style.left = `${100 * share}%`;
    $("curtain").setAttribute("aria-valuenow", String(Math.round(100 * share)));
  }
  page.overlay.request();
}

function move(id, by) {
  const slider = $(id);
  slider.value = Number(slider.value) + by;
  slider.dispatchEvent(new Event("input"));
}

function pan(x, y, event) {
  const far = event?.shiftKey ? 0.5 : 0.15;
  const viewport = page.viewer.viewport;
  const size = viewport.getBounds(true);
  viewport.panBy(new OpenSeadragon.Point(x * far * size.width, y * far * size.height).rotate(-viewport.getRotation(true)));
  viewport.applyConstraints();
}

function zoom(by) {
  page.viewer.viewport.zoomBy(by);
  page.viewer.viewport.applyConstraints();
}

const actions = {
  isDrawing: () => page.tool.active || page.editor.active,
  panLeft: (event) => pan(-1, 0, event), panRight: (event) => pan(1, 0, event),
  panUp: (event) => pan(0, -1, event), panDown: (event) => pan(0, 1, event),
  zoomIn: () => zoom(1.5), zoomOut: () => zoom(1 / 1.5),
  home: () => { page.viewer.viewport.setRotation(0); page.viewer.viewport.goHome(); },
  turnRight: () => page.viewer.viewport.setRotation(page.viewer.viewport.getRotation() + 15),
  turnLeft: () => page.viewer.viewport.setRotation(page.viewer.viewport.getRotation() - 15),
  fullScreen: () => (document.fullscreenElement ? document.exitFullscreen() : $("stage").requestFullscreen?.().catch(() => {})),
  theme: toggleTheme,
  list: () => { location.href = "../"; },
  toggleHeat: () => toggle("heat", "heat"),
  toggleOutlines: () => toggle("outlines", "outlines"),
  toggleAbsent: () => toggle("absent", "absent"),
  toggleCurtain: () => setCurtain(page.overlay.curtain === null ? 0.5 : null),
  thresholdUp: () => move("threshold", 0.02), thresholdDown: () => move("threshold", -0.02),
  opacityUp: () => move("opacity", 0.1), opacityDown: () => move("opacity", -0.1),
  reset: () => { resetControls(); recolour(); },
  next: () => (page.editor.active ? page.editor.select(1) : step(1)),
  previous: () => (page.editor.active ? page.editor.select(-1) : step(-1)),
  nextOpen: () => step(1, (region) => page.about.lesions.includes(region) && !page.review.state.judged[region.id]?.verdict),
  accept: () => judge("accepted"),
  reject: () => judge("rejected"),
  rejectAs: (label) => judge("rejected", label),
  unsure: () => judge("unsure"),
  clear: () => judge(null),
  comment: () => ($("comment").disabled ? status("Choose a lesion first: n", true) : $("comment").focus()),
  whole: () => $("whole").disabled || $("whole").click(),
  drawPolygon: () => mayReview() && draw("polygon"),
  drawBrush: () => mayReview() && draw("brush"),
  edit: () => {
    if (page.editor.active) return page.editor.end(true);
    const drawing = chosenDrawing();
    if (!drawing) return status("Choose a drawing first, in the list or with n.", true);
    if (!mayReview()) return;
    if (page.tool.active) page.tool.choose(null);
    page.editor.start(drawing);
  },
  insertCorner: () => page.editor.active && page.editor.insert(),
  meaning: () => {
    const drawing = chosenDrawing();
    if (drawing && !page.tool.active) return judge(drawing.meaning === "tumour" ? "rejected" : "accepted");
    $("meaning").value = $("meaning").value === "tumour" ? "normal" : "tumour"; status(`Drawing as ${$("meaning").selectedOptions[0].textContent}.`, false);
  },
  corner: () => (page.editor.active ? page.editor.place() : page.tool.active && page.tool.addCorner()),
  finish: () => (page.editor.active ? page.editor.end(true) : page.tool.active && page.tool.finish()),
  removeCorner: () => {
    if (!page.editor.active) return page.tool.active && page.tool.removeCorner();
    return page.editor.remove() || status("A region keeps three corners. Esc, then Delete, removes the whole of it.", true);
  },
  erase: () => {
    if (page.editor.active) return actions.removeCorner();
    const drawing = chosenDrawing();
    if (!drawing) return status("Choose a drawing first, in the list or with n.", true);
    return mayReview() && page.review.add({ kind: "erase", drawing: drawing.id });
  },
  cancel: () => { if (page.editor.active) page.editor.end(false); else if (page.tool.active) page.tool.choose(null); else if (page.overlay.curtain !== null) setCurtain(null); },
  undo: () => (page.editor.active ? page.editor.undo() || status("There is no step to take back.", false) : mayReview() && page.review.undo()),
  redo: () => mayReview() && page.review.redo(),
  help: () => $("help-dialog").showModal(),
};

const chosenDrawing = () => page.review.state.drawings.find((one) => one.id === page.chosen);

function draw(kind) {
  if (page.editor.active) page.editor.end(true);
  page.tool.choose(kind);
}

function wire() {
  page.tool = new DrawingTool(page.viewer, $("tool"), page.overlay, {
    onDone: (kind, points) => {
      const radius = kind === "brush" ? page.tool.radius() : null;
      const [meaning, label = null] = $("meaning").value.split(": ");
      const id = page.review.add({ kind: "draw", meaning, label, points, radius });
      page.chosen = page.overlay.chosen = id;
    },
    onChange: (kind) => {
      pressed("polygon", kind === "polygon");
      pressed("brush", kind === "brush");
      if (kind) status(`Drawing as ${$("meaning").selectedOptions[0].textContent}: ${kind === "polygon" ? "click the corners, double-click or Enter to close" : "paint"}; Esc to stop.`, false);
    },
  });
  page.editor = new EditingTool(page.viewer, $("tool"), page.tool, {
    onDone: (drawing, rings) => page.review.add({ kind: "redraw", drawing, rings }),
    onChange: (isOn, isChanged) => {
      pressed("edit", isOn);
      page.overlay.edited = page.editor.drawing;
      page.overlay.request();
      status(isOn ? "Drag a corner or an edge; double-click removes a corner. Enter saves, Esc does not." : isChanged ? "" : "Nothing was changed.", false);
    },
  });
  page.tool.radiusOf = () => Number($("radius").value) / page.about.map.mpp;
  for (const name of Object.keys(COLOUR_MAPS)) $("colours").append(new Option(name, name));
  for (const id of ["threshold", "colours"]) $(id).addEventListener("input", () => recolour());
  $("opacity").addEventListener("input", () => cover());
  const sayRadius = () => output("radius", `${$("radius").value} µm`);
  $("radius").addEventListener("input", sayRadius);
  sayRadius();
  $("smoothing").addEventListener("input", () => { page.map.smooth(Number($("smoothing").value)); recolour(); });
  for (const button of document.querySelectorAll("[data-do]")) button.addEventListener("click", (event) => actions[button.dataset.do](event));
  $("theme").addEventListener("click", toggleTheme);
  $("help").addEventListener("click", actions.help);
  $("label").addEventListener("change", () => judge("rejected", $("label").value || null));
  $("whole").addEventListener("change", () => page.review.add({ kind: "look", whole: $("whole").checked }));
  $("comment").addEventListener("change", () => page.review.add({ kind: "comment", target: page.chosen, text: $("comment").value }));
  listenToKeys(actions, page.about.labels);
  watchPointer();
  dragCurtain();
}

function watchPointer() {
  const stage = $("stage");
  stage.addEventListener("pointermove", (event) => {
    const box = stage.getBoundingClientRect();
    showPointer(...page.tool.slidePoint(event.clientX - box.left, event.clientY - box.top));
  });
  page.viewer.addHandler("animation-finish", () => { if (!stage.matches(":hover")) showPointer(...page.tool.middle()); });
  page.viewer.addHandler("canvas-click", (event) => {
    if (!event.quick || !page.review) return;
    const [x, y] = page.tool.slidePoint(event.position.x, event.position.y);
    const hit = everything().find((one) => isInside(one.rings, x, y));
    if (hit) choose(hit.id, false);
  });
}

function isInside(rings, x, y) {
  let inside = false;
  for (const ring of rings) {
    for (let i = 0, j = ring.length - 1; i < ring.length; j = i++) {
      const [[xi, yi], [xj, yj]] = [ring[i], ring[j]];
      if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) inside = !inside;
    }
  }
  return inside;
}

function dragCurtain() {
  const curtain = $("curtain");
  const clamp = (share) => Math.min(0.98, Math.max(0.02, share));
  curtain.addEventListener("pointerdown", (event) => curtain.setPointerCapture(event.pointerId));
  curtain.addEventListener("pointermove", (event) => {
    const box = $("stage").getBoundingClientRect();
    if (curtain.hasPointerCapture(event.pointerId)) setCurtain(clamp((event.clientX - box.left) / box.width));
  });
  curtain.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -0.02, ArrowDown: -0.02, ArrowRight: 0.02, ArrowUp: 0.02 }[event.key];
    if (by) { event.preventDefault(); setCurtain(clamp(page.overlay.curtain + by)); }
  });
}

start();
