// The table of a dataset page: unpacks the rows block by block, searches and sorts them, and never holds up a frame.

const { labels, rows: total } = JSON.parse($('labels').textContent);
const dialog = $('dialog'), grid = $('grid');
const menus = [...document.querySelectorAll('[data-menu]')];
const signs = { correct: '✓', incorrect: '✗', undecided: '?', rejected: '–' };
const FRAME = 10;    // milliseconds of work before the browser may draw

const blocks = [];                   // unpacked columns
const texts = [];                    // a row's texts in lower case, to be searched
let loaded = 0, size = 1;            // rows there; rows a block
let turn = 0, needle = '';
let sorted = { key: null, loaded: 0, order: null };
const list = new RowList(
  ['sign', 'question', 'rationale', 'answer', 'gold', 'n tokens', 'n rate'], fill, open, () => { if (dialog.open) open(); },
);
rowDialog(dialog, list, () => remember('#'));

function cell(i, name) {
  const column = blocks[i / size | 0][name];
  return column === undefined ? null : column[i % size];
}
const label = (i, name) => { const code = cell(i, name); return code === null ? null : labels[name][code]; };
const questionOf = i => { const block = blocks[i / size | 0]; return block.questions[block.q[i % size]]; };
const response = i => cell(i, 'before') === null ? cell(i, 'after') : cell(i, 'before') + cell(i, 'rationale') + cell(i, 'after');
const state = i => label(i, 'rejected') === null ? label(i, 'verdict') : 'rejected';

async function load() {
  if (!canUnpack) {
    $('status').textContent = 'This browser is too old to unpack the rows; any of 2023 or later can.';
    return;
  }
  for (const script of document.querySelectorAll('script.block')) {
    const packed = script.textContent;
    script.remove();
    const block = await unpack(packed);
    if (!blocks.length) size = block.id.length;
    blocks.push(block);
    for (let clock = performance.now(), i = loaded, end = loaded + block.id.length; i < end; i++) {
      texts[i] = `${questionOf(i)[1] ?? ''}\n${response(i) ?? ''}\n${cell(i, 'answer') ?? ''}`.toLowerCase();
      if (!(i & 127) && performance.now() - clock > FRAME) { await pause(); clock = performance.now(); }
    }
    loaded += block.id.length;
    if (blocks.length === 1) select(false);
    $('status').textContent = `reading the rows … ${Math.round(100 * loaded / total)}%`;
    await pause();
  }
  await select(false);
  const name = decodeURIComponent(location.hash.slice(1));
  for (let i = 0; name && i < loaded; i++) if (cell(i, 'id') === name) { list.here = list.order.indexOf(i); open(); break; }
}

function permutation(key) {
  if (sorted.key === key && sorted.loaded === loaded) return sorted.order;
  const name = key.slice(0, -1), sign = key.endsWith('-') ? -1 : 1;
  const value = name === 'rate' ? i => questionOf(i)[3] : i => cell(i, name);
  sorted = { key, loaded, order: sortedBy(loaded, key ? value : () => 0, sign) };
  return sorted.order;
}

function tests() {
  const predicates = menus.filter(menu => menu.value).map(menu => {
    const name = menu.dataset.menu, code = menu.value === 'none' ? null : +menu.value;
    return i => cell(i, name) === code;
  });
  const low = $('low')?.value, high = $('high')?.value;
  if (low || high) {
    const from = low ? low / 100 - 1e-6 : -1, to = high ? high / 100 + 1e-6 : 2;
    predicates.push(i => { const rate = questionOf(i)[3]; return rate !== null && rate >= from && rate <= to; });
  }
  const text = needle;
  if (text) predicates.push(i => texts[i].includes(text));
  return predicates;
}

// Finds the rows that fit; a newer call ends an older one.
async function select(again = true) {
  const mine = ++turn;
  grid.setAttribute('aria-busy', 'true');
  needle = $('search').value.toLowerCase();
  const all = permutation($('sort').value), fits = tests(), matching = new Uint32Array(all.length);
  let count = 0, clock = performance.now();
  for (let k = 0; k < all.length; k++) {
    const i = all[k];
    let fit = true;
    for (const test of fits) if (!test(i)) { fit = false; break; }
    if (fit) matching[count++] = i;
    if (!(k & 255) && performance.now() - clock > FRAME) {
      await pause();
      if (mine !== turn) return;
      clock = performance.now();
    }
  }
  list.show(matching.subarray(0, count), again);
  $('status').textContent = `${count.toLocaleString('en')} of ${total.toLocaleString('en')} rows`;
  grid.setAttribute('aria-busy', String(loaded < total));
}

function fill(row, i) {
  const [sign, question, rationale, answer, gold, tokens, rate] = row.children;
  const verdict = state(i);
  sign.textContent = signs[verdict] ?? '';
  sign.className = `sign ${verdict in signs ? verdict : ''}`;
  sign.title = [verdict, label(i, 'reason'), label(i, 'rejected')].filter(Boolean).join(': ');
  write(question, questionOf(i)[1], true);
  write(rationale, cell(i, 'rationale') ?? (cell(i, 'answer') === null ? response(i) : ''), true);
  write(answer, cell(i, 'answer'), true);
  write(gold, questionOf(i)[2], true);
  tokens.textContent = cell(i, 'completion_tokens')?.toLocaleString('en') ?? '';
  rate.textContent = questionOf(i)[3] === null ? '' : `${Math.round(100 * questionOf(i)[3])}%`;
}

// Texts become text nodes and nothing else. `brief`: one line around the first place where the searched text stands.
function write(element, text, brief = false) {
  let shown = text ?? '';
  if (brief && shown.length > 80) {
    const at = needle ? shown.toLowerCase().indexOf(needle) : 0;
    const from = at > 60 ? at - 30 : 0;
    shown = (from ? '… ' : '') + shown.slice(from, from + 400);
  }
  shown = visible(brief ? shown.replace(/[ \n\t]+/g, ' ') : shown);
  element.textContent = '';
  if (!needle) { element.textContent = shown; return; }
  const lower = shown.toLowerCase();
  let done = 0;
  for (let at = lower.indexOf(needle), n = 0; at >= 0 && n < 500; at = lower.indexOf(needle, done), n++) {
    const mark = document.createElement('mark');
    mark.textContent = shown.slice(at, at + needle.length);
    element.append(shown.slice(done, at), mark);
    done = at + needle.length;
  }
  element.append(shown.slice(done));
}

function part(title, text, parent = $('body')) {
  if (text === null || text === undefined) return;
  const section = document.createElement('section'), heading = document.createElement('h3'), body = document.createElement('pre');
  heading.textContent = title;
  body.dir = 'auto';
  write(body, text);
  section.append(heading, body);
  parent.append(section);
}

function open() {
  const i = list.current;
  if (i === undefined) return;
  $('body').textContent = '';
  const verdict = state(i), why = label(i, 'rejected') ?? label(i, 'reason');
  $('title').textContent = `${signs[verdict] ?? ''} ${verdict ?? ''}${why ? `: ${visible(why)}` : ''}  ·  ${list.here + 1} of ${list.order.length}`;
  $('title').className = verdict in signs ? verdict : '';
  part('Question', questionOf(i)[1]);
  part('Rationale', cell(i, 'rationale'));
  const pair = document.createElement('div');
  pair.className = 'pair';
  part('Answer', cell(i, 'answer'), pair);
  part('Gold answer', questionOf(i)[2], pair);
  $('body').append(pair);
  whole(i);
  facts(i);
  if (!dialog.open) dialog.showModal();
  list.view.classList.add('opened');
  dialog.scrollTop = 0;
  remember('#' + encodeURIComponent(cell(i, 'id')));
}

function whole(i) {
  const text = response(i);
  if (text === null || text === cell(i, 'rationale')) return;
  const details = document.createElement('details'), summary = document.createElement('summary');
  summary.textContent = 'Whole response';
  details.open = cell(i, 'rationale') === null && cell(i, 'answer') === null;
  details.append(summary);
  part('', text, details);
  $('body').append(details);
}

function facts(i) {
  const number = value => value === null ? null : value.toLocaleString('en', { maximumSignificantDigits: 5 });
  const rate = questionOf(i)[3];
  $('body').append(termList({
    sample: cell(i, 'id'), question: questionOf(i)[0]?.slice(0, 16), 'number of the sample': cell(i, 'sample_index'), split: label(i, 'split'),
    source: label(i, 'source'), teacher: label(i, 'teacher'), model: label(i, 'model'), decoding: label(i, 'decoding'), step: cell(i, 'step'),
    'finish reason': label(i, 'finish_reason'), 'prompt tokens': number(cell(i, 'prompt_tokens')),
    'response tokens': number(cell(i, 'completion_tokens')), 'pass rate of the question': rate === null ? null : `${(100 * rate).toFixed(1)}%`,
    'student above teacher': cell(i, 'gap') === null ? null : `${number(cell(i, 'gap'))} nats per token`,
    cost: cell(i, 'cost_usd') === null ? null : `$${number(cell(i, 'cost_usd'))}`,
    latency: cell(i, 'latency_ms') === null ? null : `${number(cell(i, 'latency_ms'))} ms`,
    'verdict': label(i, 'verdict'), 'because': label(i, 'reason'), 'rejected for': label(i, 'rejected'), detail: cell(i, 'detail'),
  }));
}

$('search').addEventListener('input', () => select());
for (const input of [...menus, $('sort'), $('low'), $('high')]) input?.addEventListener('input', () => select());
$('reset').addEventListener('click', () => {
  for (const input of [...menus, $('search'), $('sort'), $('low'), $('high')]) if (input) input.value = '';
  select();
});
load();
