// Curves over the steps, as SVG in the colours of the page: several lines on the same axes.

const WIDTH = 380, HEIGHT = 210, LEFT = 46, RIGHT = 10, TOP = 8, BOTTOM = 24;
const short = value => Number.isInteger(value) && Math.abs(value) < 1e5 ? value.toLocaleString('en') : value.toPrecision(3).replace(/\.?0+(e|$)/, '$1');

function drawn(tag, attributes, text) {
  const made = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// About four round numbers from `low` to `high`.
function ticks(low, high) {
  const rough = (high - low) / 4 || 1, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find(each => each * power >= rough) * power, found = [];
  for (let k = Math.ceil(low / step); k * step <= high + step * 1e-9 && found.length < 12; k++) found.push(k * step);
  return found;
}

// A figure of `lines`: {name, kind, xs, ys}; kind is the class that gives a line its colour and dashes. Its caption says
// where the lines begin and end, or what they are at the step under the pointer or chosen by the arrow keys.
function chart(title, lines) {
  const xs = lines.flatMap(line => line.xs), ys = lines.flatMap(line => line.ys);
  const [left, right, low, top] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const high = top > low ? top : low + (Math.abs(low) || 1);
  const x = value => LEFT + (WIDTH - LEFT - RIGHT) * (value - left) / (right - left || 1);
  const y = value => HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / (high - low);
  const svg = drawn('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, 'aria-hidden': 'true' });
  for (const value of ticks(low, high)) {
    svg.append(drawn('line', { x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value), class: 'line' }));
    svg.append(drawn('text', { x: LEFT - 5, y: y(value) + 4, class: 'n' }, short(value)));
  }
  for (const value of ticks(left, right)) svg.append(drawn('text', { x: x(value), y: HEIGHT - 7 }, short(value)));
  for (const line of lines) {
    const points = line.xs.map((at, k) => `${x(at).toFixed(1)},${y(line.ys[k]).toFixed(1)}`).join(' ');
    svg.append(drawn('polyline', { points, class: `curve ${line.kind}` }));
  }
  const cursor = drawn('line', { y1: TOP, y2: HEIGHT - BOTTOM, class: 'cursor', visibility: 'hidden' });
  svg.append(cursor);
  const caption = element('figcaption'), ends = lines.map(line => `${line.name} ${short(line.ys[0])} → ${short(line.ys.at(-1))}`);
  const figure = element('figure', null, 'chart');
  Object.assign(figure, { tabIndex: 0 });
  figure.setAttribute('role', 'group');
  figure.setAttribute('aria-label', `${title}: ${ends.join('; ')}`);
  let chosen = null;
  const show = step => {
    chosen = step;
    cursor.setAttribute('visibility', step === null ? 'hidden' : 'visible');
    if (step === null) { caption.textContent = visible(ends.join('; ')); return; }
    for (const end of ['x1', 'x2']) cursor.setAttribute(end, x(step));
    const values = lines.map(line => { const at = nearest(line.xs, step); return `${line.name} ${short(line.ys[at])}`; });
    caption.textContent = visible(`step ${short(step)}: ${values.join('; ')}`);
  };
  const steps = [...new Set(xs)].sort((one, other) => one - other);
  svg.addEventListener('pointermove', event => {
    const box = svg.getBoundingClientRect(), at = (event.clientX - box.left) / box.width * WIDTH;
    show(steps[nearest(steps, left + (at - LEFT) / (WIDTH - LEFT - RIGHT) * (right - left))]);
  });
  svg.addEventListener('pointerleave', () => show(null));
  figure.addEventListener('blur', () => show(null));
  figure.addEventListener('keydown', event => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const at = chosen === null ? (step > 0 ? 0 : steps.length - 1) : nearest(steps, chosen) + step;
    show(steps[Math.min(Math.max(0, at), steps.length - 1)]);
    event.preventDefault();
    event.stopPropagation();
  });
  show(null);
  figure.append(element('h3', title), svg, caption);
  return figure;
}

// The index of the value next to `wanted` in a rising list.
function nearest(values, wanted) {
  let low = 0, high = values.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] < wanted) low = middle + 1; else high = middle;
  }
  return low && wanted - values[low - 1] < values[low] - wanted ? low - 1 : low;
}
