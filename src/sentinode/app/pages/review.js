// The review of a slide: every operation is sent at once, and kept and sent again while the server cannot be reached.

const AGAIN_MS = 3000;

const newId = () => crypto.randomUUID?.() ?? "10000000-1000-4000-8000-100000000000".replace(/[018]/g, (c) =>
  (+c ^ (crypto.getRandomValues(new Uint8Array(1))[0] & (15 >> (+c / 4)))).toString(16));

export class ReviewClient {
  constructor(address, state, { onState, onStatus }) {
    Object.assign(this, { address, state, onState, onStatus });
    this.queue = [];
    this.mine = []; // operations of this window that can be undone, the last one last
    this.undone = [];
    this.sending = false;
    addEventListener("beforeunload", (event) => { if (this.queue.length) event.preventDefault(); });
    setInterval(() => { if (!document.hidden) this.refresh(); }, AGAIN_MS);
  }

  add(operation) {
    const whole = { id: newId(), ...operation };
    if (operation.kind !== "undo") {
      this.mine.push(whole.id);
      this.undone = [];
    }
    this.queue.push(whole);
    this.send();
    return whole.id;
  }

  undo() {
    const operation = this.mine.pop();
    if (!operation) return this.onStatus("There is nothing to undo in this window.", false);
    this.undone.push({ operation, by: this.add({ kind: "undo", operation }) });
  }

  redo() {
    const last = this.undone.pop();
    if (!last) return this.onStatus("There is nothing to redo.", false);
    this.add({ kind: "undo", operation: last.by });
    this.mine.push(last.operation);
  }

  async send() {
    if (this.sending) return;
    this.sending = true;
    while (this.queue.length) {
      let answer;
      try {
        answer = await fetch(this.address, {
          method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(this.queue[0]),
        });
      } catch {
        const count = this.queue.length;
        this.onStatus(`Not saved: the viewer does not answer. ${count} change${count === 1 ? " waits" : "s wait"} and will be sent again.`, true);
        break;
      }
      const operation = this.queue.shift();
      const content = await answer.json().catch(() => ({}));
      if (answer.ok) {
        this.take(content);
        this.onStatus(`Saved at ${new Date().toLocaleTimeString()}.`, false);
      } else {
        this.mine = this.mine.filter((id) => id !== operation.id);
        this.onStatus(`Not saved: ${content.refused ?? `the viewer refused it (${answer.status}).`}`, true);
      }
    }
    this.sending = false;
  }

  async refresh() {
    if (this.queue.length) return this.send();
    try {
      const answer = await fetch(this.address);
      if (answer.ok && !this.queue.length && !this.sending) this.take(await answer.json());
    } catch { /* said when there is something to save */ }
  }

  take(state) {
    if (state.revision <= this.state.revision) return; // an answer that was overtaken
    this.state = state;
    this.onState(state);
  }
}
