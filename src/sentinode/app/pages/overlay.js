// What lies over the slide: heatmap, outlines, lesions and drawings, on one canvas in the screen's own pixels.

const INK = { outline: "#111118", chosen: "#e6007a", tumour: "#d55e00", normal: "#007a5a", uncertain: "#a64d8f" };
const VERDICT_INK = { accepted: "#d55e00", rejected: "#007a5a", unsure: "#a64d8f" };

export class Overlay {
  constructor(viewer, canvas, size) {
    this.viewer = viewer;
    this.canvas = canvas;
    this.size = size;
    this.heat = null; // canvas of one pixel a window
    this.absent = null;
    this.pending = null;
    this.edited = null; // the drawing that is being edited, which the tool shows
    this.lines = [];
    this.lesions = [];
    this.drawings = [];
    this.uncertain = [];
    this.judged = {};
    this.chosen = null;
    this.show = { heat: true, outlines: true, absent: false };
    this.opacity = 0.6;
    this.curtain = null; // share of the width, or null
    this.waiting = false;
    for (const event of ["update-viewport", "animation", "resize", "rotate", "open"]) viewer.addHandler(event, () => this.draw());
    new ResizeObserver(() => this.request()).observe(canvas);
  }

  request() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.draw(); });
  }

  // From level-0 pixels to the screen's: a, b, c, d, e, f of a canvas transform, in CSS pixels.
  transform() {
    const viewport = this.viewer.viewport;
    const unit = this.size.padded[0]; // the width of what OpenSeadragon shows is 1 to it
    const place = (x, y) => viewport.pixelFromPoint(new OpenSeadragon.Point(x / unit, y / unit), true);
    const far = this.size.width; // a long base keeps the rounding small
    const [o, x, y] = [place(0, 0), place(far, 0), place(0, far)];
    return [(x.x - o.x) / far, (x.y - o.y) / far, (y.x - o.x) / far, (y.y - o.y) / far, o.x, o.y];
  }

  draw() {
    const ratio = devicePixelRatio || 1;
    const { clientWidth, clientHeight } = this.canvas;
    const [width, height] = [Math.round(clientWidth * ratio), Math.round(clientHeight * ratio)];
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    const context = this.canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, width, height);
    if (!this.viewer.viewport) return;
    const slide = this.transform().map((value) => value * ratio);
    context.save();
    if (this.curtain !== null) {
      context.beginPath();
      context.rect(this.curtain * width, 0, width, height);
      context.clip();
    }
    if (this.map) this.drawMap(context, slide, ratio);
    context.restore();
    this.drawRegions(context, slide, ratio);
  }

  drawMap(context, slide, ratio) {
    const { stride, origin, rows, columns } = this.map;
    const corner = [origin[0] - stride / 2, origin[1] - stride / 2];
    const cells = [slide[0] * stride, slide[1] * stride, slide[2] * stride, slide[3] * stride,
      slide[0] * corner[0] + slide[2] * corner[1] + slide[4], slide[1] * corner[0] + slide[3] * corner[1] + slide[5]];
    context.setTransform(...cells);
    context.save();
    context.beginPath(); // the last windows may reach beyond the slide
    context.rect(-corner[0] / stride, -corner[1] / stride, this.size.width / stride, this.size.height / stride);
    context.clip();
    for (const picture of [this.pending, this.show.absent && this.absent]) {
      context.imageSmoothingEnabled = false;
      if (picture) context.drawImage(picture, 0, 0, columns, rows);
    }
    if (this.show.heat && this.heat) {
      context.imageSmoothingEnabled = this.map.sigma > 0; // without smoothing each window shows as it is
      context.globalAlpha = this.opacity;
      context.drawImage(this.heat, 0, 0, columns, rows);
      context.globalAlpha = 1;
    }
    context.restore();
    if (this.show.outlines) {
      const path = new Path2D();
      for (let i = 0; i < this.lines.length; i += 4) {
        path.moveTo(this.lines[i], this.lines[i + 1]);
        path.lineTo(this.lines[i + 2], this.lines[i + 3]);
      }
      // Far out, where a window is a few pixels, thin lines leave the tissue to be seen.
      const side = Math.hypot(cells[0], cells[1]) / ratio;
      this.stroke(context, cells, path, INK.outline, Math.min(1.5, Math.max(0.6, side / 8)) * ratio, [], side > 6);
    }
  }

  drawRegions(context, slide, ratio) {
    for (const lesion of this.lesions) {
      const verdict = this.judged[lesion.id]?.verdict;
      if (verdict && this.show.outlines) this.stroke(context, slide, ringsPath(lesion), VERDICT_INK[verdict], 2.5 * ratio);
    }
    for (const region of this.show.outlines ? this.uncertain : []) {
      this.stroke(context, slide, ringsPath(region), INK.uncertain, 2 * ratio, [6, 4]);
    }
    for (const drawing of this.drawings) {
      if (drawing.id === this.edited) continue;
      const path = ringsPath(drawing);
      context.setTransform(...slide);
      context.fillStyle = INK[drawing.meaning];
      context.globalAlpha = 0.15;
      context.fill(path, "evenodd");
      context.globalAlpha = 1;
      this.stroke(context, slide, path, INK[drawing.meaning], 2.5 * ratio, [8, 3]);
    }
    const chosen = [...this.lesions, ...this.uncertain, ...this.drawings].find((one) => one.id === this.chosen && one.id !== this.edited);
    if (chosen) this.stroke(context, slide, ringsPath(chosen), INK.chosen, 3 * ratio);
  }

  // A line of the same width at every zoom, on white, so that it shows on every colour.
  stroke(context, transform, path, ink, width, dashes = [], isCased = true) {
    const scale = Math.hypot(transform[0], transform[1]);
    context.setTransform(...transform);
    context.lineJoin = context.lineCap = "round";
    context.lineWidth = (width + 1.6) / scale;
    context.strokeStyle = "rgb(255 255 255 / 85%)";
    if (isCased) context.stroke(path);
    context.setLineDash(dashes.map((dash) => dash / scale));
    context.lineWidth = width / scale;
    context.strokeStyle = ink;
    context.stroke(path);
    context.setLineDash([]);
  }
}

const paths = new Map();

function ringsPath(region) {
  const held = paths.get(region.id);
  if (held && held.rings === region.rings) return held.path;
  const path = new Path2D();
  for (const ring of region.rings) {
    ring.forEach(([x, y], i) => (i ? path.lineTo(x, y) : path.moveTo(x, y)));
    path.closePath();
  }
  paths.set(region.id, { rings: region.rings, path });
  return path;
}
