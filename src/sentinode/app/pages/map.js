// The map of a slide as numbers: smoothed, cut at a threshold, and coloured, all in the browser.
//
// Smoothing is that of the scan, by the rule that the server states: a Gaussian over what can be judged alone. So at
// the scan's own settings the outlines are the scan's. A "level" is a probability moved until the scan's cut is one half.

const CERTAIN = 1e-6;
const PENDING = 255; // the code of a window that a scan on its way has not come to

const logit = (p) => { const q = Math.min(Math.max(p, CERTAIN), 1 - CERTAIN); return Math.log(q / (1 - q)); };
const expit = (x) => 1 / (1 + Math.exp(-x));

export const COLOUR_MAPS = {
  viridis: ["#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725"],
  magma: ["#000004", "#180f3d", "#440f76", "#721f81", "#9e2f7f", "#cd4071", "#f1605d", "#fd9668", "#feca8d", "#fcfdbf"],
  cividis: ["#00204d", "#00336f", "#39486b", "#575c6d", "#707173", "#8a8779", "#a69d75", "#c4b56c", "#e4cf5b", "#ffea46"],
  blue: ["#f7fbff", "#deebf7", "#c6dbef", "#9ecae1", "#6baed6", "#4292c6", "#2171b5", "#08519c", "#08306b"],
};

// Where on the scale colour begins and where it is full; the threshold lies at one half.
const VISIBLE = [0.25, 0.6];

// Log-odds from the cut up to which colours differ, and in how many steps to each side.
const SPAN = 8;
const STEPS = 1024;

export class ProbabilityMap {
  constructor(about, buffer, codes = null) {
    Object.assign(this, about);
    this.raw = new Float32Array(buffer);
    this.codes = codes;
    this.shift = logit(about.rule.cut);
    const { on, limit } = about.rule;
    const prior = logit(about.prior);
    const scaled = on === "probability"
      ? (p) => expit(logit(p) - this.shift)
      : (p) => Math.min(limit, Math.max(-limit, logit(p) - prior));
    this.even = new Float32Array(this.raw.length);
    for (let i = 0; i < this.raw.length; i++) this.even[i] = this.isJudged(i) ? scaled(this.raw[i]) : NaN;
    this.smooth(about.rule.sigma_um);
  }

  isJudged(cell) { return this.raw[cell] === this.raw[cell] && !(this.codes && this.codes[cell]); }

  // A level, whose middle is the scan's cut, as a probability, and back.
  probability(level) { return expit(logit(level) + this.shift); }
  level(probability) { return expit(logit(probability) - this.shift); }

  smooth(sigmaUm) {
    this.sigma = sigmaUm;
    const sigma = sigmaUm / (this.stride * this.mpp);
    const values = sigma > 0 ? smoothed(this.even, this.rows, this.columns, sigma, this.rule.reach) : this.even;
    const middle = this.shift - logit(this.prior);
    this.levels = this.rule.on === "probability" ? values : values.map((value) => expit(value - middle));
    this.odds = this.levels.map(logit); // NaN stays NaN
  }

  // The row and column of the window whose square holds a level-0 point, or null beyond the map.
  cell(x, y) {
    const column = Math.floor((x - this.origin[0]) / this.stride + 0.5);
    const row = Math.floor((y - this.origin[1]) / this.stride + 0.5);
    return row >= 0 && column >= 0 && row < this.rows && column < this.columns ? row * this.columns + column : null;
  }

  at(x, y) {
    const cell = this.cell(x, y);
    if (cell !== null && this.codes?.[cell] === PENDING) return { reason: "not scanned yet" };
    if (cell === null || Number.isNaN(this.raw[cell])) return { reason: "no tissue found" };
    if (!this.isJudged(cell)) return { reason: this.reasons[this.codes[cell]] ?? "unsuited" };
    return { raw: this.raw[cell], smoothed: this.probability(this.levels[cell]) };
  }

  // The heatmap as a canvas of one pixel a window; colour runs with the threshold.
  picture(level, colours) {
    const canvas = document.createElement("canvas");
    canvas.width = this.columns;
    canvas.height = this.rows;
    const context = canvas.getContext("2d");
    const image = context.createImageData(this.columns, this.rows);
    const words = new Uint32Array(image.data.buffer);
    // The colour of each distance from the cut in log-odds, so that a slider moves without a pause on large maps.
    const table = colourTable(colours);
    const steps = new Uint32Array(2 * STEPS + 1).map((_, i) => table[Math.round(255 * expit((i / STEPS - 1) * SPAN))]);
    const cut = logit(level);
    for (let i = 0; i < this.odds.length; i++) {
      const far = Math.min(SPAN, Math.max(-SPAN, this.odds[i] - cut));
      if (far === far) words[i] = steps[Math.round((far / SPAN + 1) * STEPS)];
    }
    context.putImageData(image, 0, 0);
    return canvas;
  }

  // What has no probability: a canvas with a dark pixel for each such window.
  absent() {
    const canvas = document.createElement("canvas");
    canvas.width = this.columns;
    canvas.height = this.rows;
    const context = canvas.getContext("2d");
    const image = context.createImageData(this.columns, this.rows);
    for (let i = 0; i < this.raw.length; i++) {
      if (this.isJudged(i) || this.codes?.[i] === PENDING) continue;
      const unsuited = this.raw[i] === this.raw[i];
      image.data.set(unsuited ? [230, 159, 0, 150] : [90, 90, 105, 110], 4 * i);
    }
    context.putImageData(image, 0, 0);
    return canvas;
  }

  // What a scan on its way has not come to: a canvas with a veil over each such window, or null where there is none.
  pending() {
    if (!this.codes?.includes(PENDING)) return null;
    const canvas = document.createElement("canvas");
    canvas.width = this.columns;
    canvas.height = this.rows;
    const context = canvas.getContext("2d");
    const image = context.createImageData(this.columns, this.rows);
    for (let i = 0; i < this.codes.length; i++) if (this.codes[i] === PENDING) image.data.set([70, 75, 105, 105], 4 * i);
    context.putImageData(image, 0, 0);
    return canvas;
  }

  // The border of all windows at or above a level, in windows from the map's corner, and how many regions there are.
  outlines(level) {
    const inside = new Uint8Array(this.levels.length);
    for (let i = 0; i < inside.length; i++) inside[i] = this.levels[i] >= level ? 1 : 0;
    return { lines: border(inside, this.rows, this.columns), regions: countRegions(inside, this.rows, this.columns) };
  }
}

function colourTable(name) {
  const stops = COLOUR_MAPS[name].map((text) => [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16)));
  const table = new Uint32Array(256);
  const bytes = new Uint8Array(table.buffer);
  for (let i = 0; i < 256; i++) {
    const place = (i / 255) * (stops.length - 1);
    const before = Math.min(Math.floor(place), stops.length - 2);
    for (let c = 0; c < 3; c++) {
      bytes[4 * i + c] = stops[before][c] + (place - before) * (stops[before + 1][c] - stops[before][c]);
    }
    bytes[4 * i + 3] = 255 * Math.min(1, Math.max(0, (i / 255 - VISIBLE[0]) / (VISIBLE[1] - VISIBLE[0])));
  }
  return table;
}

export function colourBar(canvas, name, opacity) {
  canvas.width = 256;
  canvas.height = 1;
  const context = canvas.getContext("2d");
  const image = context.createImageData(256, 1);
  new Uint32Array(image.data.buffer).set(colourTable(name));
  for (let i = 3; i < image.data.length; i += 4) image.data[i] *= opacity;
  context.putImageData(image, 0, 0);
}

// Normalised convolution (Knutsson and Westin 1993): the weighted mean of the tissue around each window of tissue.
export function smoothed(values, rows, columns, sigma, reach) {
  const radius = Math.floor(reach * sigma + 0.5);
  const kernel = Float64Array.from({ length: 2 * radius + 1 }, (_, i) => Math.exp(-((i - radius) ** 2) / (2 * sigma * sigma)));
  const sum = kernel.reduce((a, b) => a + b);
  for (let i = 0; i < kernel.length; i++) kernel[i] /= sum;
  const size = rows * columns;
  let weight = new Float64Array(size);
  let total = new Float64Array(size);
  for (let i = 0; i < size; i++) {
    if (values[i] === values[i]) { weight[i] = 1; total[i] = values[i]; }
  }
  for (const [count, length, step, stride] of [[columns, rows, columns, 1], [rows, columns, 1, columns]]) {
    const nextWeight = new Float64Array(size);
    const nextTotal = new Float64Array(size);
    for (let line = 0; line < count; line++) {
      const start = line * stride;
      for (let i = 0; i < length; i++) {
        const w = weight[start + i * step];
        if (w === 0) continue;
        const t = total[start + i * step];
        const first = Math.max(0, i - radius);
        const last = Math.min(length - 1, i + radius);
        for (let j = first; j <= last; j++) {
          const k = kernel[j - i + radius];
          nextWeight[start + j * step] += k * w;
          nextTotal[start + j * step] += k * t;
        }
      }
    }
    weight = nextWeight;
    total = nextTotal;
  }
  const out = new Float32Array(size);
  for (let i = 0; i < size; i++) out[i] = values[i] === values[i] ? total[i] / weight[i] : NaN;
  return out;
}

// The edges between windows inside and outside, joined along rows and columns: x0, y0, x1, y1, ...
export function border(inside, rows, columns) {
  const lines = [];
  const at = (row, column) => (row < 0 || column < 0 || row >= rows || column >= columns ? 0 : inside[row * columns + column]);
  const walk = (lengthAcross, lengthAlong, edge, push) => {
    for (let across = 0; across <= lengthAcross; across++) {
      let start = -1;
      for (let along = 0; along <= lengthAlong; along++) {
        const here = along < lengthAlong && edge(across, along);
        if (here && start < 0) start = along;
        if (!here && start >= 0) { push(across, start, along); start = -1; }
      }
    }
  };
  walk(rows, columns, (row, column) => at(row - 1, column) !== at(row, column), (row, a, b) => lines.push(a, row, b, row));
  walk(columns, rows, (column, row) => at(row, column - 1) !== at(row, column), (column, a, b) => lines.push(column, a, column, b));
  return lines;
}

// Windows that touch at an edge or a corner are one region, as in the scan.
function countRegions(inside, rows, columns) {
  const seen = new Uint8Array(inside.length);
  const waiting = [];
  let regions = 0;
  for (let start = 0; start < inside.length; start++) {
    if (!inside[start] || seen[start]) continue;
    regions++;
    seen[start] = 1;
    waiting.push(start);
    while (waiting.length) {
      const cell = waiting.pop();
      const row = Math.floor(cell / columns);
      const column = cell % columns;
      for (let r = Math.max(0, row - 1); r <= Math.min(rows - 1, row + 1); r++) {
        for (let c = Math.max(0, column - 1); c <= Math.min(columns - 1, column + 1); c++) {
          const near = r * columns + c;
          if (inside[near] && !seen[near]) { seen[near] = 1; waiting.push(near); }
        }
      }
    }
  }
  return regions;
}
