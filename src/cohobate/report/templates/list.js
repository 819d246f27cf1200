'use strict';
// What the pages with a long table share: rows are unpacked, drawn only where they are in sight, and walked by keys.

const $ = id => document.getElementById(id);
const AROUND = 8;    // rows drawn beyond those in sight

// What would be invisible, or turn the text around, is written out; null bytes and escape characters too.
const hidden = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;
const visible = text => text.replace(/\r\n/g, '\n').replace(hidden, character => {
  const code = character.charCodeAt(0).toString(16);
  return code.length < 3 ? '\\x' + code.padStart(2, '0') : '\\u' + code.padStart(4, '0');
});

const channel = new MessageChannel(), waiting = [];
channel.port1.onmessage = () => waiting.shift()();
const pause = () => new Promise(done => { waiting.push(done); channel.port2.postMessage(0); });

const canUnpack = 'DecompressionStream' in window;
async function unpack(text) {
  const bytes = Uint8Array.fromBase64 ? Uint8Array.fromBase64(text) : Uint8Array.from(atob(text), c => c.charCodeAt(0));
  const plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'));
  return JSON.parse(await new Response(plain).text());
}

// An element with a text, which becomes a text node and nothing else.
function element(tag, text, kind) {
  const made = document.createElement(tag);
  if (kind) made.className = kind;
  if (text !== undefined && text !== null) made.textContent = visible(String(text));
  return made;
}

// Terms and their values, without those that have none.
function termList(values) {
  const list = element('dl', null, 'facts');
  for (const [name, value] of Object.entries(values)) {
    if (value === null || value === undefined || value === '') continue;
    const entry = element('div');
    entry.append(element('dt', name), element('dd', value));
    list.append(entry);
  }
  return list;
}

// Some browsers refuse to change the address of a file.
function remember(hash) { try { history.replaceState(null, '', hash); } catch { /* the page works without it */ } }

// The order of `count` rows by a number each, rows without one last.
function sortedBy(count, value, sign) {
  const indices = Uint32Array.from({ length: count }, (_, i) => i);
  const keys = Float64Array.from(indices, i => { const v = value(i); return v === null || v === undefined ? Infinity : sign * v; });
  return indices.sort((a, b) => keys[a] === keys[b] ? a - b : keys[a] - keys[b]);
}

// The rows of `view`, whose content is `space`: each has a cell per name of `cells`, which `fill(row, i)` writes.
// `open` is called where a row is chosen, `moved` where keys have gone on to another.
class RowList {
  constructor(cells, fill, open, moved = () => {}) {
    Object.assign(this, { cells, fill, open, moved, view: $('view'), space: $('space') });
    Object.assign(this, { order: new Uint32Array(0), here: 0, pool: [], height: 1, shown: false });
    let drawing = false;
    this.view.addEventListener('scroll', () => {
      if (drawing) return;
      drawing = true;
      requestAnimationFrame(() => { drawing = false; this.draw(); });
    }, { passive: true });
    new ResizeObserver(() => { if (this.shown) this.layout(); }).observe(this.view);
    this.view.addEventListener('keydown', event => this.key(event));
    this.space.addEventListener('click', event => {
      const row = event.target.closest('.row');
      if (row) { this.here = row.at; this.draw(); this.open(event); }
    });
  }

  get current() { return this.order[this.here]; }

  // Shows the rows of `order`. again: from the first one on.
  show(order, again) {
    this.order = order;
    this.shown = true;
    if (again) { this.here = 0; this.view.scrollTop = 0; }
    this.layout();
  }

  layout() {
    const probe = this.make();
    this.space.append(probe);
    this.height = probe.offsetHeight || 1;
    probe.remove();
    for (const row of this.pool) row.remove();
    const needed = Math.ceil(this.view.clientHeight / this.height) + 2 * AROUND;
    this.pool = Array.from({ length: Math.min(needed, this.order.length) }, () => this.make());
    this.space.style.height = `${this.order.length * this.height}px`;
    this.space.append(...this.pool);
    this.view.closest('[role=table]').setAttribute('aria-rowcount', this.order.length);
    this.draw();
  }

  make() {
    const row = element('div', null, 'row');
    row.setAttribute('role', 'row');
    for (const name of this.cells) {
      const cell = element('span', null, name);
      cell.setAttribute('role', 'cell');
      cell.dir = 'auto';
      row.append(cell);
    }
    return row;
  }

  // A place in the order always has the same element of the pool: scrolling by a row fills one element.
  draw(again = false) {
    const first = Math.max(0, Math.floor(this.view.scrollTop / this.height) - AROUND);
    const end = Math.min(this.order.length, first + this.pool.length);
    for (let at = Math.max(0, end - this.pool.length); at < end; at++) {
      const row = this.pool[at % this.pool.length];
      if (row.at !== at || again) {
        row.at = at;
        row.style.transform = `translateY(${at * this.height}px)`;
        row.setAttribute('aria-rowindex', at + 1);
        this.fill(row, this.order[at]);
      }
      row.classList.toggle('here', at === this.here);
    }
  }

  move(step) {
    this.here = Math.min(Math.max(0, this.here + step), this.order.length - 1);
    const top = this.here * this.height, { view } = this;
    if (top < view.scrollTop) view.scrollTop = top;
    else if (top + this.height > view.scrollTop + view.clientHeight) view.scrollTop = top + this.height - view.clientHeight;
    this.draw();
    this.moved();
  }

  key(event) {
    const page = Math.max(1, Math.floor(this.view.clientHeight / this.height) - 1);
    const steps = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity, PageDown: page, PageUp: -page };
    if (event.key === 'Enter') this.open(event);
    else if (steps[event.key]) this.move(steps[event.key]);
    else return;
    event.preventDefault();
  }
}

// A dialog that shows the row chosen: left and right go on, and so do its buttons. `forget` is called when it closes.
function rowDialog(dialog, list, forget) {
  const close = () => { forget(); list.view.classList.remove('opened'); list.view.focus({ preventScroll: true }); };
  dialog.addEventListener('keydown', event => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) { list.move(step); event.preventDefault(); }
  });
  dialog.addEventListener('click', event => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener('close', close);
  $('before').addEventListener('click', () => list.move(-1));
  $('next').addEventListener('click', () => list.move(1));
  $('close').addEventListener('click', () => dialog.close());
}
