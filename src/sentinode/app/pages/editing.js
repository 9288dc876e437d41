// Editing what was drawn: its corners are moved, added and removed, with a pointer or with keys alone. With keys the
// chosen corner comes under the cross in the middle of the screen, and the arrows move the slide under it.

const NEAR = 10; // pixels of the screen within which a corner or an edge is meant
const SHORTEST = 36; // edges shorter than this show no handle in their middle

export class EditingTool {
  constructor(viewer, canvas, tool, { onDone, onChange }) {
    Object.assign(this, { viewer, canvas, tool, onDone, onChange });
    this.drawing = null;
    this.rings = [];
    this.chosen = null; // [ring, corner]
    this.history = [];
    this.grip = null;
    canvas.addEventListener("pointerdown", (event) => { if (this.active) this.down(event); });
    canvas.addEventListener("pointermove", (event) => { if (this.active) this.move(event); });
    canvas.addEventListener("pointerup", () => { this.grip = null; });
    canvas.addEventListener("pointercancel", () => { this.grip = null; });
    canvas.addEventListener("dblclick", () => { if (this.active) this.remove(); });
    for (const event of ["update-viewport", "animation", "resize"]) viewer.addHandler(event, () => { if (this.active) this.draw(); });
  }

  get active() { return this.drawing !== null; }

  start(drawing) {
    this.drawing = drawing.id;
    // The server's rings end with the corner that they begin with.
    this.rings = drawing.rings.map((ring) => ring.slice(0, -1).map((corner) => [...corner]));
    this.chosen = [0, 0];
    this.history = [];
    this.canvas.classList.add("active", "editing");
    this.onChange(true);
    this.draw();
  }

  // End, and keep the changes or not.
  end(isKept) {
    const { drawing, rings } = this;
    const isChanged = this.history.length > 0;
    this.drawing = this.grip = null;
    this.rings = [];
    this.canvas.classList.remove("active", "editing");
    this.draw();
    this.onChange(false, isKept && isChanged);
    if (isKept && isChanged) this.onDone(drawing, rings.map((ring) => ring.map((corner) => corner.map((value) => Math.round(10 * value) / 10))));
  }

  remember() { this.history.push(JSON.stringify([this.rings, this.chosen])); }

  undo() {
    if (!this.history.length) return false;
    [this.rings, this.chosen] = JSON.parse(this.history.pop());
    this.draw();
    return true;
  }

  corner() { return this.rings[this.chosen[0]][this.chosen[1]]; }

  // The next or the previous corner comes under the cross.
  select(by) {
    const all = this.rings.flatMap((ring, r) => ring.map((_, c) => [r, c]));
    const at = all.findIndex(([r, c]) => r === this.chosen[0] && c === this.chosen[1]);
    this.chosen = all[(at + by + all.length) % all.length];
    this.glide();
    this.draw();
  }

  glide() {
    const [x, y] = this.corner();
    const unit = this.tool.overlay.size.padded[0];
    this.viewer.viewport.panTo(new OpenSeadragon.Point(x / unit, y / unit));
  }

  // The chosen corner goes to where the cross is.
  place() {
    this.remember();
    this.rings[this.chosen[0]][this.chosen[1]] = this.tool.middle();
    this.draw();
  }

  // A new corner behind the chosen one, where the cross is.
  insert(corner = this.tool.middle(), [ring, at] = this.chosen) {
    this.remember();
    this.rings[ring].splice(at + 1, 0, corner);
    this.chosen = [ring, at + 1];
    this.draw();
  }

  // Take the chosen corner away; a ring of three goes as a whole, unless it is the last.
  remove() {
    const [r, c] = this.chosen;
    if (this.rings[r].length <= 3 && this.rings.length === 1) return false;
    this.remember();
    if (this.rings[r].length <= 3) {
      this.rings.splice(r, 1);
      this.chosen = [0, 0];
    } else {
      this.rings[r].splice(c, 1);
      this.chosen = [r, c % this.rings[r].length];
    }
    this.draw();
    return true;
  }

  screen([x, y]) {
    const [a, b, c, d, e, f] = this.tool.overlay.transform();
    return [a * x + c * y + e, b * x + d * y + f];
  }

  // What lies under a point of the screen: a corner, or an edge and the place on it.
  under(x, y) {
    let corner = null, edge = null, [near, nearEdge] = [NEAR, NEAR];
    this.rings.forEach((ring, r) => ring.forEach((point, c) => {
      const [px, py] = this.screen(point);
      const far = Math.hypot(px - x, py - y);
      if (far < near) { near = far; corner = [r, c]; }
      const [qx, qy] = this.screen(ring[(c + 1) % ring.length]);
      const length = (qx - px) ** 2 + (qy - py) ** 2 || 1;
      const along = Math.min(1, Math.max(0, ((x - px) * (qx - px) + (y - py) * (qy - py)) / length));
      const beside = Math.hypot(px + along * (qx - px) - x, py + along * (qy - py) - y);
      if (beside < nearEdge) { nearEdge = beside; edge = [r, c]; }
    }));
    return { corner, edge };
  }

  down(event) {
    if (event.button !== 0) return;
    this.canvas.setPointerCapture(event.pointerId);
    const box = this.canvas.getBoundingClientRect();
    const { corner, edge } = this.under(event.clientX - box.left, event.clientY - box.top);
    if (corner) {
      this.chosen = corner;
      this.grip = { kind: "corner", isMoved: false };
    } else if (edge) {
      this.insert(this.tool.place(event), edge);
      this.grip = { kind: "corner", isMoved: true };
    } else {
      this.grip = { kind: "slide", x: event.clientX, y: event.clientY };
    }
    this.draw();
  }

  move(event) {
    if (!this.grip) return;
    if (this.grip.kind === "slide") {
      const viewport = this.viewer.viewport;
      const by = new OpenSeadragon.Point(this.grip.x - event.clientX, this.grip.y - event.clientY);
      viewport.panBy(viewport.deltaPointsFromPixels(by, true).rotate(-viewport.getRotation(true)), true);
      Object.assign(this.grip, { x: event.clientX, y: event.clientY });
      return;
    }
    if (!this.grip.isMoved) this.remember();
    this.grip.isMoved = true;
    this.rings[this.chosen[0]][this.chosen[1]] = this.tool.place(event);
    this.draw();
  }

  draw() {
    const { context, width, height, ratio } = this.tool.cleared();
    if (!this.active) return;
    const path = new Path2D();
    const handles = [];
    this.rings.forEach((ring, r) => {
      const places = ring.map((point) => this.screen(point).map((value) => value * ratio));
      places.forEach(([x, y], c) => {
        if (c) path.lineTo(x, y); else path.moveTo(x, y);
        const [nx, ny] = places[(c + 1) % places.length];
        if (Math.hypot(nx - x, ny - y) > SHORTEST * ratio) handles.push([(x + nx) / 2, (y + ny) / 2, 3, false]);
        handles.push([x, y, 5, r === this.chosen[0] && c === this.chosen[1]]);
      });
      path.closePath();
    });
    context.fillStyle = "rgb(230 0 122 / 12%)";
    context.fill(path, "evenodd");
    for (const [ink, wide] of [["#ffffff", 4.5], ["#e6007a", 2.5]]) {
      context.strokeStyle = ink;
      context.lineWidth = wide * ratio;
      context.stroke(path);
    }
    for (const [x, y, radius, isChosen] of handles) {
      context.beginPath();
      context.arc(x, y, (isChosen ? 7 : radius) * ratio, 0, 2 * Math.PI);
      context.fillStyle = isChosen ? "#e6007a" : "#ffffff";
      context.fill();
      context.lineWidth = 1.5 * ratio;
      context.strokeStyle = isChosen ? "#ffffff" : "#e6007a";
      context.stroke();
    }
    this.tool.cross(context, width, height, ratio);
  }
}
