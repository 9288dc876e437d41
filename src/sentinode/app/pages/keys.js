// Every key, what it does, and the page that says so.

export const KEYS = [
  ["Look", [
    ["ArrowLeft", "panLeft", "move left, right, up, down (Shift: farther)", "← → ↑ ↓"],
    ["ArrowRight", "panRight"], ["ArrowUp", "panUp"], ["ArrowDown", "panDown"],
    ["+", "zoomIn", "zoom in and out", "+ -"], ["=", "zoomIn"], ["-", "zoomOut"],
    ["0", "home", "the whole slide"],
    [".", "turnRight", "turn right, left", ". ,"], [",", "turnLeft"],
    ["f", "fullScreen", "full screen"],
    ["t", "theme", "light or dark"],
    ["g", "list", "all slides"],
  ]],
  ["Map", [
    ["h", "toggleHeat", "heatmap"],
    ["o", "toggleOutlines", "outlines"],
    ["k", "toggleCurtain", "curtain"],
    ["j", "toggleAbsent", "what was not judged"],
    ["]", "thresholdUp", "threshold up, down", "] ["], ["[", "thresholdDown"],
    ["}", "opacityUp", "opacity up, down", "} {"], ["{", "opacityDown"],
    ["s", "reset", "threshold and smoothing as scanned"],
  ]],
  ["Lesions", [
    ["n", "next", "next and previous lesion, uncertain region or drawing", "n p"], ["p", "previous"],
    ["q", "nextOpen", "next lesion that is not reviewed"],
    ["a", "accept", "accept"],
    ["r", "reject", "reject"],
    ["u", "unsure", "unsure"],
    ["x", "clear", "take the verdict back"],
    ["c", "comment", "write a comment (Esc ends it)"],
    ["w", "whole", "I have looked at the whole slide"],
  ]],
  ["Draw", [
    ["d", "drawPolygon", "draw a region; again: stop"],
    ["b", "drawBrush", "brush; again: stop"],
    ["m", "meaning", "as {positive} or as no {positive}; also the chosen drawing"],
    [" ", "corner", "set a corner at the cross", "Space"],
    ["Enter", "finish", "close the region"],
    ["Backspace", "removeCorner", "remove the last corner"],
    ["Delete", "erase", "remove the chosen drawing"],
    ["Escape", "cancel", "stop drawing, close this page", "Esc"],
    ["z", "undo", "undo, redo", "z y"], ["y", "redo"],
  ]],
  ["Edit a drawing", [
    ["e", "edit", "edit the corners of the chosen drawing; again, or Enter: save"],
    [null, null, "next and previous corner", "n p"],
    [null, null, "the corner goes to the cross", "Space"],
    ["i", "insertCorner", "a new corner at the cross"],
    [null, null, "remove the corner", "Backspace"],
    [null, null, "take the last step back", "z"],
    [null, null, "stop without saving", "Esc"],
    [null, null, "make it {positive}, or no {positive}", "a r"],
  ]],
  ["Help", [["?", "help", "this page"]]],
];

// What an element does with a key by itself is left to it.
function isTaken(event, target) {
  if (!(target instanceof HTMLElement)) return false;
  if (target.tagName === "TEXTAREA" || target.tagName === "SELECT") return true;
  if (target.tagName === "INPUT" && target.type === "search") return true;
  if (target.tagName === "INPUT" && target.type === "range") return event.key.startsWith("Arrow");
  if (target.id === "curtain") return event.key.startsWith("Arrow");
  if (["BUTTON", "A", "INPUT"].includes(target.tagName)) return event.key === " " || event.key === "Enter";
  return false;
}

export function listenToKeys(actions, labels) {
  const known = new Map(KEYS.flatMap(([, keys]) => keys.map(([key, action]) => [key, action])));
  document.addEventListener("keydown", (event) => {
    const dialog = document.querySelector("dialog[open]");
    if (dialog) {
      if (event.key === "?") dialog.close();
      return;
    }
    if (event.target instanceof HTMLTextAreaElement && event.key === "Escape") { event.target.blur(); return; }
    const isCorner = (event.key === " " || event.key === "Enter") && actions.isDrawing();
    if (isTaken(event, event.target) && !(isCorner && event.target.tagName === "BUTTON")) return;
    if (event.ctrlKey || event.metaKey) {
      if (event.key.toLowerCase() !== "z") return;
      event.preventDefault();
      actions[event.shiftKey ? "redo" : "undo"]();
      return;
    }
    if (event.altKey) return;
    const number = /^[1-9]$/.test(event.key) ? Number(event.key) : 0;
    if (number && number <= labels.length) {
      event.preventDefault();
      actions.rejectAs(labels[number - 1]);
      return;
    }
    const action = known.get(event.key) ?? known.get(event.key.toLowerCase());
    if (!action) return;
    event.preventDefault();
    actions[action](event);
  });
}

export function describeKeys(place, labels, positive) {
  const groups = [...KEYS.map(([title, keys]) => [title, keys.filter(([, , text]) => text).map(([key, , text, shown]) => [shown ?? key, text])])];
  groups.splice(3, 0, ["Reject as", labels.map((label, i) => [String(i + 1), label])]);
  place.replaceChildren(...groups.map(([title, keys]) => {
    const block = document.createElement("div");
    const head = document.createElement("h3");
    head.textContent = title;
    const list = document.createElement("dl");
    for (const [key, text] of keys) {
      const term = document.createElement("dt");
      term.append(...key.split(" ").map((one) => Object.assign(document.createElement("kbd"), { textContent: one })));
      list.append(term, Object.assign(document.createElement("dd"), { textContent: text.replaceAll("{positive}", positive) }));
    }
    block.append(head, list);
    return block;
  }));
}
