// Drawing on the slide: a polygon corner by corner, or a brush. Works with a pointer and with keys alone: with keys a
// cross in the middle of the screen sets the corners, and the arrows move the slide under it.

export class DrawingTool {
  constructor(viewer, canvas, overlay, { onDone, onChange }) {
    Object.assign(this, { viewer, canvas, overlay, onDone, onChange });
    this.kind = null;
    this.points = [];
    this.at = null;
    this.painting = false;
    const whileDrawing = (event, act) => canvas.addEventListener(event, (happened) => { if (this.active) act(happened); });
    whileDrawing("pointerdown", (event) => this.down(event));
    whileDrawing("pointermove", (event) => this.move(event));
    whileDrawing("pointerup", (event) => this.up(event));
    whileDrawing("pointercancel", () => { this.painting = false; this.draw(); });
    whileDrawing("dblclick", () => this.finish());
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const place = this.viewer.viewport.pointFromPixel(new OpenSeadragon.Point(event.offsetX, event.offsetY), true);
      this.viewer.viewport.zoomBy(event.deltaY < 0 ? 1.25 : 0.8, place);
    }, { passive: false });
    for (const event of ["update-viewport", "animation", "resize"]) viewer.addHandler(event, () => { if (this.active) this.draw(); });
  }

  // Begin with a kind, "polygon" or "brush"; null, or the same again, ends it.
  choose(kind) {
    this.kind = kind === this.kind ? null : kind;
    this.points = [];
    this.at = null;
    this.painting = false;
    this.canvas.classList.toggle("active", this.kind !== null);
    this.onChange(this.kind);
    this.draw();
  }

  get active() { return this.kind !== null; }

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    return this.slidePoint(event.clientX - box.left, event.clientY - box.top);
  }

  slidePoint(x, y) {
    const point = this.viewer.viewport.pointFromPixel(new OpenSeadragon.Point(x, y), true);
    return [point.x * this.overlay.size.padded[0], point.y * this.overlay.size.padded[0]];
  }

  middle() { return this.slidePoint(this.canvas.clientWidth / 2, this.canvas.clientHeight / 2); }

  down(event) {
    if (event.button !== 0) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.painting = true;
    this.points.push(this.place(event));
    this.draw();
  }

  move(event) {
    const here = this.place(event);
    this.at = here;
    // A polygon may also be drawn in one stroke.
    if (this.painting && this.far(here)) this.points.push(here);
    this.draw();
  }

  up() {
    if (!this.painting) return;
    this.painting = false;
    if (this.kind === "brush") this.finish();
    this.draw();
  }

  // Whether a point is some pixels of the screen from the last one.
  far([x, y]) {
    const [a, b] = this.points.at(-1);
    return Math.hypot(x - a, y - b) * Math.hypot(...this.overlay.transform().slice(0, 2)) > (this.kind === "brush" ? 4 : 8);
  }

  addCorner() {
    this.points.push(this.middle());
    this.at = null;
    this.draw();
  }

  removeCorner() { this.points.pop(); this.draw(); }

  finish() {
    const points = this.points.filter(([x, y], i, all) => i === 0 || x !== all[i - 1][0] || y !== all[i - 1][1]);
    if (points.length >= (this.kind === "brush" ? 1 : 3)) {
      this.onDone(this.kind, points.map(([x, y]) => [Math.round(10 * x) / 10, Math.round(10 * y) / 10]));
    }
    this.points = [];
    this.draw();
  }

  // The canvas at the screen's size, with nothing on it.
  cleared() {
    const ratio = devicePixelRatio || 1;
    const [width, height] = [this.canvas.clientWidth * ratio, this.canvas.clientHeight * ratio].map(Math.round);
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    const context = this.canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, width, height);
    return { context, width, height, ratio };
  }

  draw() {
    const { context, width, height, ratio } = this.cleared();
    if (!this.active) return;
    const slide = this.overlay.transform().map((value) => value * ratio);
    const scale = Math.hypot(slide[0], slide[1]);
    const next = this.at && !this.painting && this.kind === "polygon" ? [this.at] : [];
    const path = new Path2D();
    [...this.points, ...next].forEach(([x, y], i) => (i ? path.lineTo(x, y) : path.moveTo(x, y)));
    context.setTransform(...slide);
    context.lineJoin = context.lineCap = "round";
    context.strokeStyle = "#e6007a";
    if (this.kind === "brush") {
      const radius = this.radius();
      context.globalAlpha = 0.5;
      context.lineWidth = 2 * radius;
      context.stroke(path);
      context.globalAlpha = 1;
      const [x, y] = this.at ?? this.middle();
      context.lineWidth = (2 * ratio) / scale;
      context.beginPath();
      context.arc(x, y, radius, 0, 2 * Math.PI);
      context.stroke();
    } else {
      context.fillStyle = "rgb(230 0 122 / 15%)";
      context.fill(path, "evenodd");
      context.lineWidth = (2.5 * ratio) / scale;
      context.stroke(path);
      for (const [x, y] of this.points) {
        context.beginPath();
        context.arc(x, y, (4 * ratio) / scale, 0, 2 * Math.PI);
        context.stroke();
      }
    }
    this.cross(context, width, height, ratio);
  }

  cross(context, width, height, ratio) {
    context.setTransform(ratio, 0, 0, ratio, width / 2, height / 2);
    for (const [ink, wide] of [["#ffffff", 4], ["#111118", 1.5]]) {
      context.strokeStyle = ink;
      context.lineWidth = wide;
      context.beginPath();
      context.moveTo(-12, 0); context.lineTo(12, 0);
      context.moveTo(0, -12); context.lineTo(0, 12);
      context.stroke();
    }
  }

  // In level-0 pixels; the page sets it from the microns chosen.
  radius() { return this.radiusOf(); }
}
