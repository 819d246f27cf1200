// The page of all runs: a table to sort and to filter, a run to look inside, and the curves of two laid over each other.

const STORED = 1, DETAILED = 2, SAMPLED = 4, IS_PAGE = 8, HAS_SAMPLES = 16;   // as in report/runs.py
const SHOWN = 24;    // artifacts of a run whose details are loaded
const KEPT = 60;     // details kept
const served = location.protocol !== 'file:';   // then what is not written yet is made when it is asked for
const dialog = $('dialog');
const menus = [...document.querySelectorAll('[data-menu]')];
const chosen = { a: null, b: null };

let runs = null, count = 0, texts = [], ranks = {}, opening = 0, comparing = 0;
const list = new RowList(
  ['mark', 'recipe', 'started', 'status', 'n accuracy', 'n teacher', 'n gap', 'n flops', 'n cost', 'n seconds'],
  fill, open, () => { if (dialog.open) open(); },
);
rowDialog(dialog, list, address);

const percent = value => value === null ? '' : `${(100 * value).toFixed(1)}%`;
const moment = seconds => seconds === null ? '' : new Date(1000 * seconds).toISOString().slice(0, 16).replace('T', ' ');
function big(value) {
  if (value === null) return '';
  const at = value >= 1000 ? Math.min(7, Math.floor(Math.log10(value) / 3)) : 0;
  return `${(value / 1000 ** at).toPrecision(3)} ${' kMGTPEZ'[at].trim()}`.trim();
}
function span(seconds) {
  if (seconds === null) return '';
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}
const dollars = value => value === null ? '' : `$${value >= 0.1 ? value.toFixed(2) : value.toPrecision(2)}`;

async function load() {
  if (!canUnpack) {
    $('status').textContent = 'This browser is too old to unpack the rows; any of 2023 or later can.';
    return;
  }
  const packed = $('rows').textContent;
  $('rows').remove();
  runs = await unpack(packed);
  count = runs.id.length;
  texts = runs.id.map((id, i) => `${id}\n${runs.recipe[i]}\n${runs.flow[i]}\n${runs.status[i]}\n${runs.error[i] ?? ''}`.toLowerCase());
  for (const name of ['recipe', 'status']) {
    const different = [...new Set(runs[name])].sort();
    const rank = new Map(different.map((value, at) => [value, at]));
    ranks[name] = runs[name].map(value => rank.get(value));
  }
  const named = new URLSearchParams(location.hash.slice(1));
  for (const mark of ['a', 'b']) {
    const at = runs.id.indexOf(named.get(mark));
    if (at >= 0) chosen[mark] = at;
  }
  select();
  if (chosen.a !== null || chosen.b !== null) compare();
  const at = list.order.indexOf(runs.id.indexOf(named.get('run')));
  if (at >= 0) { list.here = at; list.move(0); open(); }
}

function select(again = true) {
  const key = $('sort').value, name = key.slice(0, -1), column = ranks[name] ?? runs[name];
  const order = sortedBy(count, i => column[i], key.endsWith('-') ? -1 : 1);
  const needle = $('search').value.toLowerCase();
  const fits = menus.filter(menu => menu.value).map(menu => i => runs[menu.dataset.menu][i] === menu.value);
  if (needle) fits.push(i => texts[i].includes(needle));
  list.show(order.filter(i => fits.every(fit => fit(i))), again);
  for (const head of document.querySelectorAll('[data-sort]')) {
    if (head.dataset.sort === name) head.setAttribute('aria-sort', key.endsWith('-') ? 'descending' : 'ascending');
    else head.removeAttribute('aria-sort');
  }
  $('status').textContent = `${list.order.length.toLocaleString('en')} of ${count.toLocaleString('en')} runs`;
  $('grid').setAttribute('aria-busy', 'false');
}

function fill(row, i) {
  const [mark, recipe, started, status, accuracy, teacher, gap, flops, cost, seconds] = row.children;
  mark.textContent = '';
  for (const name of ['a', 'b']) {
    const letter = element('i', name.toUpperCase(), chosen[name] === i ? `on-${name}` : '');
    letter.dataset.mark = name;
    letter.title = `lay its curves over those of the other, as ${name.toUpperCase()}`;
    mark.append(letter);
  }
  recipe.textContent = visible(runs.recipe[i]) + (runs.flow[i] === 'distill' ? '' : ` · ${visible(runs.flow[i])}`);
  recipe.title = visible(runs.id[i]);
  started.textContent = moment(runs.started[i]);
  status.textContent = visible(runs.status[i]);
  status.className = `status ${/^\w+$/.test(runs.status[i]) ? runs.status[i] : ''}`;
  accuracy.textContent = percent(runs.accuracy[i]);
  teacher.textContent = percent(runs.teacher[i]);
  gap.textContent = percent(runs.gap_closed[i]);
  flops.textContent = runs.flops[i] ? `${big(runs.flops[i])}FLOP` : '';
  cost.textContent = dollars(runs.cost_usd[i]);
  seconds.textContent = span(runs.seconds[i]);
}

// The address names what is shown, so that it can be handed on.
function address() {
  const named = new URLSearchParams();
  for (const mark of ['a', 'b']) if (chosen[mark] !== null) named.set(mark, runs.id[chosen[mark]]);
  if (dialog.open && list.current !== undefined) named.set('run', runs.id[list.current]);
  remember(`#${named}`);
}

function choose(mark, i) {
  const other = mark === 'a' ? 'b' : 'a';
  chosen[mark] = chosen[mark] === i ? null : i;
  if (chosen[other] === i) chosen[other] = null;
  list.draw(true);
  address();
  compare();
}

// Details come as scripts, which a page from the disk may load; each calls `cohobateDetails` with nothing but base64.
const details = new Map(), awaited = new Map();
window.cohobateDetails = async packed => {
  const content = await unpack(packed);
  awaited.get(content.id)?.(content);
};
function detailsOf(at) {
  const name = runs.names[at], known = runs.known[at];
  if (!(known & STORED) || !(served || known & DETAILED)) return Promise.resolve(null);
  if (!details.has(name)) {
    if (details.size >= KEPT) details.delete(details.keys().next().value);
    details.set(name, new Promise(done => {
      awaited.set(name, done);
      const script = element('script');
      script.src = place(name, '.js');
      script.onerror = () => done(null);
      script.onload = () => script.remove();
      document.head.append(script);
    }));
  }
  return details.get(name);
}
function place(name, end) {
  const [stage, folder] = name.split('/').map(encodeURIComponent);
  return end ? `../${stage}/pages/${folder}${end}` : `../${stage}/${folder}/index.html`;
}
const allOf = i => Promise.all(runs.artifacts[i].slice(0, SHOWN).map(detailsOf)).then(all => all.filter(Boolean));

function linesOf(all, kind, name) {
  const lines = {};
  for (const each of all) for (const [measure, [xs, ys]] of Object.entries(each.curves)) {
    (lines[`${each.stage}: ${measure.replaceAll('_', ' ')}`] ??= []).push({ name, kind, xs, ys });
  }
  return lines;
}
const SEEN_FIRST = ['accuracy', 'loss', 'reverse kl', 'mean length', 'entropy', 'grad norm'];
function charts(...sets) {
  const titles = [...new Set(sets.flatMap(set => Object.keys(set)))];
  if (!titles.length) return [element('p', unwritten(), 'faint')];
  const rank = title => { const at = SEEN_FIRST.findIndex(name => title.includes(`: ${name}`)); return at < 0 ? 99 : at; };
  titles.sort((one, other) => rank(one) - rank(other));
  const figures = chosenTitles => {
    const grid = element('div', null, 'figures');
    grid.append(...chosenTitles.map(title => chart(title, sets.flatMap(set => set[title] ?? []))));
    return grid;
  };
  const others = titles.filter(title => rank(title) === 99);
  const first = figures(titles.filter(title => rank(title) < 99));
  return others.length ? [first, folded(`${others.length} more curves`, () => [figures(others)])] : [first];
}

// Content that is made when it is asked for.
function folded(title, content) {
  const made = element('details');
  made.append(element('summary', title));
  made.addEventListener('toggle', () => { if (made.open && made.children.length === 1) made.append(...content()); });
  return made;
}
const unwritten = () => served ? 'There are no curves.' : 'There are no curves here; those of older runs are written by: cohobate report --all --detailed N';

async function compare() {
  const mine = ++comparing, place = $('lines'), marks = ['a', 'b'].filter(mark => chosen[mark] !== null);
  if (!marks.length) { place.replaceChildren(element('p', 'No run is chosen.', 'faint')); return; }
  const all = await Promise.all(marks.map(mark => allOf(chosen[mark])));
  if (mine !== comparing) return;
  const heads = element('div', null, 'pairs');
  for (const mark of marks) {
    const head = element('div', null, mark), i = chosen[mark], away = element('button', 'take away');
    away.type = 'button';
    away.setAttribute('aria-label', `take run ${mark.toUpperCase()} away`);
    away.addEventListener('click', () => choose(mark, i));
    head.append(element('b', `${mark.toUpperCase()}: ${runs.id[i]}`), termList({ status: runs.status[i], accuracy: percent(runs.accuracy[i]), 'FLOPs': runs.flops[i] ? big(runs.flops[i]) : '' }), away);
    heads.append(head);
  }
  const sets = marks.map((mark, k) => linesOf(all[k], mark, mark.toUpperCase()));
  place.replaceChildren(heads, ...charts(...sets));
  if (marks.length === 2) place.append(...differences(all[0], all[1]));
}

// The settings in which two runs differ.
function differences(one, other) {
  const settings = all => Object.assign({}, ...all.map(each => each.settings));
  const a = settings(one), b = settings(other);
  const names = [...new Set([...Object.keys(a), ...Object.keys(b)])].filter(name => a[name] !== b[name]).sort();
  const heading = element('h3', 'Settings that differ');
  if (!names.length) return [heading, element('p', 'None of those that are known.', 'faint')];
  return [heading, table('Settings that differ', ['setting', 'A', 'B'], names.map(name => [name, a[name] ?? '–', b[name] ?? '–']))];
}

function table(title, header, rows) {
  const wide = element('div', null, 'wide'), made = element('table'), head = element('tr');
  Object.assign(wide, { tabIndex: 0 });
  wide.setAttribute('role', 'region');
  wide.setAttribute('aria-label', title);
  for (const name of header) head.append(element('th', name));
  made.append(element('thead'), element('tbody'));
  made.tHead.append(head);
  for (const row of rows) {
    const line = element('tr');
    for (const value of row) line.append(element('td', value));
    made.tBodies[0].append(line);
  }
  wide.append(made);
  return wide;
}

async function open(event) {
  const i = list.current;
  if (i === undefined) return;
  const mark = event?.target?.closest?.('[data-mark]')?.dataset.mark;
  if (mark) { choose(mark, i); return; }
  const mine = ++opening, body = $('body');
  $('title').textContent = `${visible(runs.id[i])}  ·  ${list.here + 1} of ${list.order.length}`;
  body.replaceChildren(termList({
    recipe: runs.recipe[i], flow: runs.flow[i], status: runs.status[i], 'started (UTC)': moment(runs.started[i]), took: span(runs.seconds[i]),
    accuracy: percent(runs.accuracy[i]), teacher: percent(runs.teacher[i]), 'gap closed': percent(runs.gap_closed[i]),
    'FLOPs': runs.flops[i] ? big(runs.flops[i]) : '', cost: dollars(runs.cost_usd[i]), error: runs.error[i],
  }), choices(i), artifacts(i));
  if (!dialog.open) dialog.showModal();
  list.view.classList.add('opened');
  dialog.scrollTop = 0;
  address();
  const all = await allOf(i);
  if (mine !== opening) return;
  const scores = all.flatMap(each => each.scores.map(row => [row.student, row.split, row.decoding, row.n, percent(row.accuracy), `${percent(row.low)} to ${percent(row.high)}`]));
  if (scores.length) body.append(element('h2', 'Accuracy'), table('Accuracy', ['student', 'split', 'decoding', 'n', 'accuracy', '95% interval'], scores));
  body.append(element('h2', 'Curves'), ...charts(linesOf(all, 'a', '')));
  for (const each of all) body.append(...rollouts(each));
  const sampled = all.filter(each => each.samples.length);
  if (sampled.length) body.append(element('h2', 'Samples'));
  for (const each of sampled) body.append(folded(each.id, () => samples(each)));
}

function choices(i) {
  const tools = element('div', null, 'tools');
  for (const mark of ['a', 'b']) {
    const button = element('button', `curves as ${mark.toUpperCase()}`);
    button.type = 'button';
    button.setAttribute('aria-pressed', String(chosen[mark] === i));
    button.addEventListener('click', () => { choose(mark, i); tools.replaceWith(choices(i)); });
    tools.append(button);
  }
  return tools;
}

function artifacts(i) {
  const part = element('section'), entries = element('ul');
  for (const at of runs.artifacts[i]) {
    const name = runs.names[at], known = runs.known[at], entry = element('li');
    entry.append(element('code', name));
    const links = [];
    if (known & IS_PAGE) links.push(['page', place(name)]);
    if (known & HAS_SAMPLES && known & STORED && (served || known & SAMPLED)) links.push(['all samples', place(name, '.html')]);
    for (const [text, href] of links) {
      const link = element('a', text);
      link.href = href;
      entry.append(' · ', link);
    }
    if (!(known & STORED)) entry.append(element('span', ' · not stored any more', 'faint'));
    else if (known & HAS_SAMPLES && !served && !(known & SAMPLED)) entry.append(' · ', element('span', 'all samples: cohobate page ', 'faint'), element('code', name));
    entries.append(entry);
  }
  part.append(element('h2', 'Artifacts'), runs.artifacts[i].length ? entries : element('p', 'The run has made none.', 'faint'));
  return part;
}

function rollouts(each) {
  return each.rollouts.map((rollout, at) => {
    const part = element('div', null, 'rollout'), text = element('pre');
    text.dir = 'auto';
    for (const [token, shade, gap] of rollout.tokens) {
      const one = element('span', token);
      one.style.setProperty('--s', shade);
      one.title = `student ${short(gap ?? 0)} nats above the teacher`;
      text.append(one);
    }
    const prompt = element('pre', rollout.prompt, 'faint');
    part.append(element('b', `Rollout at step ${rollout.step}`), element('span', ` mean gap ${short(rollout.gap ?? 0)} nats${rollout.cut ? ', cut off' : ''}`, 'faint'), prompt, text);
    if (at) return part;
    const about = element('p', 'A token is shaded the more, the less likely it is to the teacher than to the student.', 'faint');
    const section = element('section');
    section.append(element('h2', 'Rollouts'), about, part);
    return section;
  });
}

function samples(each) {
  return each.samples.map(sample => {
    const part = element('div', null, 'sample');
    const verdict = [sample.verdict, sample.reason, sample.rejected].filter(Boolean).join(': ');
    part.append(element('b', verdict, /^\w+$/.test(sample.verdict ?? '') ? sample.verdict : ''));
    for (const [title, text] of [['Question', sample.question], ['Response', sample.response], ['Answer', sample.answer], ['Gold answer', sample.gold]]) {
      if (text === undefined) continue;
      const body = element('pre', text);
      body.dir = 'auto';
      part.append(element('h3', title), body);
    }
    return part;
  });
}

list.view.addEventListener('keydown', event => {
  const mark = event.key.toLowerCase();
  if ((mark === 'a' || mark === 'b') && !event.ctrlKey && !event.metaKey && !event.altKey && list.current !== undefined) choose(mark, list.current);
});
$('search').addEventListener('input', () => select());
for (const input of [...menus, $('sort')]) input.addEventListener('input', () => select());
for (const head of document.querySelectorAll('[data-sort]')) {
  head.querySelector('button').addEventListener('click', () => {
    const name = head.dataset.sort, now = $('sort').value, falls = !['recipe', 'status'].includes(name);
    $('sort').value = now === `${name}-` ? `${name}+` : now === `${name}+` ? `${name}-` : name + (falls ? '-' : '+');
    select();
  });
}
$('reset').addEventListener('click', () => {
  for (const input of [...menus, $('search')]) input.value = '';
  $('sort').value = 'started-';
  select();
});
load();
