"use strict";
// The program of the page: the map on a canvas, and a table that draws only the rows in view.
// It reads the data of this page and nothing else. Text is set as text, never as markup.

const data = JSON.parse(document.getElementById("data").textContent);
const find = (id) => document.getElementById(id);
const make = (name, text, more) => Object.assign(document.createElement(name), { textContent: text ?? "" }, more);
const rows = data.rows, total = rows.host.length;
const styleOf = (row) => data.names[data.styles[rows.kind[row]]];
const stateOf = (row) => data.kinds[rows.kind[row]][1];
const at = (name, row) => (rows[name] ? rows[name][row] : null);

function swatch(style) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("width", 10);
  svg.setAttribute("height", 10);
  svg.setAttribute("aria-hidden", "true");
  const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  for (const [name, value] of [["width", 10], ["height", 10], ["rx", 2], ["class", "s-" + style]]) rect.setAttribute(name, value);
  svg.append(rect);
  return svg;
}

// ── the table ──

const ROW = 28, SPARE = 12;  // pixels of a row; rows drawn beyond either edge
const text = (words) => words.join(" ");
const columns = [
  { head: "Host", key: (r) => rows.host[r], show: (r) => data.hosts[rows.host[r]] },
  ...(data.hostnames ? [{ head: "Name", key: (r) => data.hostnames[rows.host[r]], show: (r) => data.hostnames[rows.host[r]] }] : []),
  { head: "Port", key: (r) => rows.port[r], show: (r) => (rows.port[r] < 0 ? "host" : rows.port[r] + "/" + data.kinds[rows.kind[r]][0]) },
  { head: "State", key: (r) => data.styles[rows.kind[r]], show: (r) => data.labels[styleOf(r)] },
  { head: "Reason", key: (r) => data.kinds[rows.kind[r]][2], show: (r) => data.kinds[rows.kind[r]][2] },
  { head: "TTL", name: "ttl", key: (r) => at("ttl", r), show: (r) => at("ttl", r) ?? "-" },
  { head: "RTT ms", name: "rtt", key: (r) => at("rtt", r), show: (r) => at("rtt", r) ?? "-" },
  { head: "Service", name: "service", key: (r) => data.services[at("service", r)], show: (r) => data.services[at("service", r)] },
  { head: "Evidence", key: (r) => text(data.kinds[rows.kind[r]][3]), show: (r) => text(data.kinds[rows.kind[r]][3]) },
  { head: "From", name: "sender", key: (r) => data.addresses[at("sender", r)], show: (r) => data.addresses[at("sender", r)] },
  { head: "Scanner", name: "scanner", key: (r) => data.addresses[at("scanner", r)], show: (r) => data.addresses[at("scanner", r)] },
  { head: "Tunnel", name: "tunnel", key: (r) => data.addresses[at("tunnel", r)], show: (r) => data.addresses[at("tunnel", r)] },
  { head: "Scan", name: "scan", key: (r) => at("scan", r), show: (r) => at("scan", r) || "" },
].filter((column) => !column.name || rows[column.name]);

const view = { rows: new Uint32Array(0), sort: null, down: false, spot: null, chosen: -1 };

function heads() {
  for (const column of columns) {
    const th = make("th", "", { scope: "col" });
    const button = make("button", column.head, { type: "button" });
    button.addEventListener("click", () => sortBy(column));
    column.th = th;
    th.setAttribute("aria-sort", "none");
    th.append(button);
    find("heads").append(th);
  }
}

function sortBy(column) {
  view.down = view.sort === column && !view.down;
  view.sort = column;
  for (const other of columns) other.th.setAttribute("aria-sort", other !== column ? "none" : view.down ? "descending" : "ascending");
  arrange();
}

function arrange() {
  if (view.sort) {
    const key = view.sort.key, sign = view.down ? -1 : 1;
    const keys = new Map();
    for (const row of view.rows) keys.set(row, key(row));
    view.rows.sort((a, b) => {
      const x = keys.get(a), y = keys.get(b);
      if (x === y) return a - b;
      if (x === null || x === "" || x === undefined) return 1;  // unknown values come last in both directions
      if (y === null || y === "" || y === undefined) return -1;
      return x < y ? -sign : sign;
    });
  }
  find("scroll").scrollTop = 0;
  draw();
}

function draw() {
  const box = find("scroll");
  const count = view.rows.length;
  const first = Math.max(0, Math.floor(box.scrollTop / ROW) - SPARE);
  const last = Math.min(count, Math.ceil((box.scrollTop + box.clientHeight) / ROW) + SPARE);
  const held = document.activeElement?.dataset?.row;  // the row whose button has the focus
  const body = document.createDocumentFragment();
  body.append(gap(first * ROW));
  for (let place = first; place < last; place++) body.append(line(view.rows[place], place));
  body.append(gap((count - last) * ROW));
  find("body").replaceChildren(body);
  find("table").setAttribute("aria-rowcount", count + 1);
  if (held !== undefined) find("body").querySelector(`button[data-row="${held}"]`)?.focus({ preventScroll: true });
}

function gap(height) {
  const tr = make("tr");
  const td = make("td", "", { className: "gap", colSpan: columns.length });
  td.style.height = height + "px";
  tr.setAttribute("aria-hidden", "true");
  tr.append(td);
  return tr;
}

function line(row, place) {
  const tr = make("tr", "", { className: row === view.chosen ? "chosen" : "" });
  tr.setAttribute("aria-rowindex", place + 2);
  for (const column of columns) {
    const td = make("td");
    if (column.head === "Host") {
      const button = make("button", column.show(row), { type: "button" });
      button.dataset.row = row;
      button.setAttribute("aria-label", "Explain " + describe(row));
      td.append(button);
    } else {
      if (column.head === "State") td.append(swatch(styleOf(row)));
      td.append(String(column.show(row) ?? ""));
    }
    tr.append(td);
  }
  return tr;
}

function describe(row) {
  const port = rows.port[row] < 0 ? "" : " port " + columns.find((column) => column.head === "Port").show(row);
  const name = data.hostnames?.[rows.host[row]];
  return data.hosts[rows.host[row]] + (name ? " (" + name + ")" : "") + port + ": " + data.labels[styleOf(row)];
}

function explain(row) {
  view.chosen = row;
  const [, state, reason, words] = data.kinds[rows.kind[row]];
  const list = make("ul");
  for (const word of words) {
    const item = make("li");
    item.append(make("code", word), " ", data.sentences[word]);
    list.append(item);
  }
  const because = make("p", state + " (" + reason + "): " + (data.reasons[reason] ?? "") + ".");
  find("detail").replaceChildren(make("strong", describe(row)), because, ...(words.length ? [list] : []));
  draw();
}

// ── search and filters ──

function texts() {
  const kinds = data.kinds.map((kind, number) => [kind[0], data.labels[data.names[data.styles[number]]], kind[2], ...kind[3]].join(" ").toLowerCase());
  const services = data.services.map((name) => name.toLowerCase());
  return (row) => data.hosts[rows.host[row]] + " " + kinds[rows.kind[row]] + " " + (rows.service ? services[rows.service[row]] : "")
    + " " + (rows.sender ? data.addresses[rows.sender[row]] : "") + " " + (data.hostnames?.[rows.host[row]] ?? "").toLowerCase();
}
const searchable = texts();

function matches(row, terms) {
  const port = String(rows.port[row]);
  let whole = null;
  for (const term of terms) {
    if (term === port || term === port + "/" + data.kinds[rows.kind[row]][0]) continue;
    if (/^\d{1,5}$/.test(term)) return false;  // a bare number is a port
    whole ??= searchable(row);
    if (!whole.includes(term)) return false;
  }
  return true;
}

function filter() {
  const terms = find("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const styles = new Set([...find("states").querySelectorAll("input:checked")].map((box) => box.value));
  const reason = find("reason").value, word = find("word").value, spot = view.spot;
  const wanted = data.kinds.map((kind, number) =>
    styles.has(data.names[data.styles[number]]) && (!reason || kind[2] === reason) && (!word || kind[3].includes(word)));
  const found = [];
  for (let row = 0; row < total; row++) {
    if (wanted[rows.kind[row]] && (!spot || spot.has(row)) && (!terms.length || matches(row, terms))) found.push(row);
  }
  view.rows = Uint32Array.from(found);
  find("spot").hidden = !spot;
  if (spot) find("spot").textContent = "Only " + spot.title + " ✕";
  find("found").textContent = found.length.toLocaleString("en") + " of " + total.toLocaleString("en") + " rows";
  arrange();
}

function controls() {
  const styles = new Map(), reasons = new Set(), words = new Set();
  for (let row = 0; row < total; row++) styles.set(styleOf(row), (styles.get(styleOf(row)) ?? 0) + 1);
  for (const kind of data.kinds) {
    reasons.add(kind[2]);
    kind[3].forEach((word) => words.add(word));
  }
  for (const name of data.names.filter((style) => styles.has(style))) {
    const label = make("label");
    const box = make("input", "", { type: "checkbox", value: name, checked: true, defaultChecked: true });
    label.append(box, " ", swatch(name), " " + data.labels[name] + " (" + styles.get(name).toLocaleString("en") + ")");
    find("states").append(label);
  }
  for (const [id, values] of [["reason", reasons], ["word", words]]) {
    for (const value of [...values].sort()) find(id).append(make("option", value, { value }));
    find(id).parentElement.hidden = !values.size;
  }
  let waiting = 0;
  find("filters").addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(filter, 80); });
  find("filters").addEventListener("submit", (event) => event.preventDefault());
  find("filters").addEventListener("reset", () => { view.spot = null; setTimeout(filter); });
  find("spot").addEventListener("click", () => { view.spot = null; filter(); find("search").focus(); });
  find("scroll").addEventListener("scroll", () => requestAnimationFrame(draw), { passive: true });
  find("body").addEventListener("click", (event) => {
    const row = event.target.closest("button")?.dataset.row;
    if (row !== undefined) explain(Number(row));
  });
}

// ── the map ──

// Where (x, y) lies on the Hilbert curve of a square of 2^order cells a side.
function along(order, x, y) {
  let place = 0;
  for (let side = 1 << (order - 1); side; side >>= 1) {
    const right = x & side ? 1 : 0, low = y & side ? 1 : 0;
    place += side * side * ((3 * right) ^ low);
    if (!low) {
      if (right) { x = side - 1 - (x & (side - 1)); y = side - 1 - (y & (side - 1)); } else { x &= side - 1; y &= side - 1; }
      [x, y] = [y, x];
    } else { x &= side - 1; y &= side - 1; }
  }
  return place;
}

// The address that is `cells` cells behind `base`, as text; a cell holds 2^bits addresses.
function address(base, bits, cells) {
  const step = BigInt(cells) << BigInt(bits);
  if (!base.includes(":")) {
    const number = base.split(".").reduce((sum, part) => sum * 256n + BigInt(part), 0n) + step;
    return [24n, 16n, 8n, 0n].map((shift) => (number >> shift) & 255n).join(".");
  }
  const [left, right] = base.split("::").map((half) => (half ? half.split(":") : []));
  const parts = right ? [...left, ...Array(8 - left.length - right.length).fill("0"), ...right] : left;
  const number = parts.reduce((sum, part) => (sum << 16n) + BigInt("0x" + part), 0n) + step;
  const groups = Array.from({ length: 8 }, (_, group) => ((number >> BigInt(112 - 16 * group)) & 0xffffn).toString(16)).join(":");
  const runs = [...groups.matchAll(/(?:^|:)0(?::0)+(?=:|$)/g)].sort((a, b) => b[0].length - a[0].length || a.index - b.index);
  if (!runs.length) return groups;
  return groups.slice(0, runs[0].index) + "::" + groups.slice(runs[0].index + runs[0][0].length + 1);
}

const map = { now: null, width: 0, height: 0, cell: [1, 1], margin: [0, 0], x: 0, y: 0 };

function choose(number) {
  const now = (map.now = data.maps[number]);
  const grid = now.kind === "grid";
  map.width = grid ? Math.max(1, now.ports.length) : 1 << now.order;
  map.height = grid ? now.hosts.length : 1 << now.order;
  map.x = map.y = 0;
  const size = 2 ** now.bits;
  find("about").textContent = grid
    ? "A row for each host, a column for each port: " + now.title + "."
    : now.kind === "ports"
      ? "All 65,536 ports of " + now.title + " along a Hilbert curve: neighbours stay close, port 0 is top left."
      : "The addresses of " + now.title + " along a Hilbert curve: neighbours stay close, networks are blocks. A cell is "
        + (size === 1 ? "one address" : size.toLocaleString("en") + " addresses") + " and shows the strongest state of its ports.";
  paint();
}

function placeOf(x, y) {
  return map.now.kind === "grid" ? y * map.width + x : along(map.now.order, x, y);
}

function measure() {
  const grid = map.now.kind === "grid";
  const room = find("cells").parentElement.clientWidth - 8;
  map.margin = grid ? [Math.min(room / 3, 10 + 7.3 * Math.max(...map.now.hosts.map((host) => host.length))), 46] : [0, 0];
  const fit = Math.floor((Math.min(room, grid ? room : 780) - map.margin[0]) / map.width);
  map.cell = grid
    ? [Math.max(3, Math.min(22, fit)), map.height <= 40 ? 18 : map.height <= 100 ? 8 : 4]
    : Array(2).fill(Math.max(2, Math.min(24, fit)));
}

function paint() {
  measure();
  const canvas = find("cells"), sharp = window.devicePixelRatio || 1;
  const [across, down] = map.cell, [left, top] = map.margin;
  const width = left + map.width * across, height = top + map.height * down;
  canvas.width = width * sharp;
  canvas.height = height * sharp;
  canvas.style.width = width + "px";
  canvas.style.height = height + "px";
  const pen = canvas.getContext("2d");
  pen.scale(sharp, sharp);
  const theme = getComputedStyle(document.documentElement);
  const colours = data.names.map((name) => theme.getPropertyValue("--" + name));
  const seam = across > 4 && down > 4 ? 1 : 0;
  for (let y = 0; y < map.height; y++) {
    for (let x = 0; x < map.width; x++) {
      pen.fillStyle = colours[map.now.cells[placeOf(x, y)]];
      pen.fillRect(left + x * across, top + y * down, across - seam, down - seam);
    }
  }
  if (map.now.kind === "grid") names(pen, theme);
  map.picture = make("canvas", "", { width: canvas.width, height: canvas.height });
  map.picture.getContext("2d").drawImage(canvas, 0, 0);
}

function names(pen, theme) {
  const [across, down] = map.cell, [left, top] = map.margin;
  pen.fillStyle = theme.getPropertyValue("--ink");
  pen.font = "12px ui-monospace, monospace";
  pen.textBaseline = "middle";
  const lines = Math.ceil(14 / down), steps = Math.ceil(14 / across);
  pen.textAlign = "right";
  for (let y = 0; y < map.height; y += lines) pen.fillText(map.now.hosts[y], left - 6, top + (y + .5) * down, left - 8);
  pen.textAlign = "left";
  for (let x = 0; x < map.now.ports.length; x += steps) {
    pen.save();
    pen.translate(left + (x + .5) * across, top - 5);
    pen.rotate(-Math.PI / 2);
    pen.fillText(map.now.ports[x], 0, 0);
    pen.restore();
  }
}

function where() {
  const now = map.now, place = placeOf(map.x, map.y);
  if (now.kind === "grid") return now.hosts[map.y] + (now.ports.length ? " port " + now.ports[map.x] : "");
  if (now.kind === "ports") return now.title + " port " + place;
  const whole = now.base.includes(":") ? 128 : 32;
  return address(now.base, now.bits, place) + (now.bits ? "/" + (whole - now.bits) : "");
}

function point(x, y) {
  map.x = Math.max(0, Math.min(map.width - 1, x));
  map.y = Math.max(0, Math.min(map.height - 1, y));
  const style = data.names[map.now.cells[placeOf(map.x, map.y)]];
  find("cell").textContent = where() + ": " + (data.labels[style] ?? "no row");
  const pen = find("cells").getContext("2d"), theme = getComputedStyle(document.documentElement);
  const [across, down] = map.cell, [left, top] = map.margin;
  pen.save();
  pen.resetTransform();
  pen.clearRect(0, 0, map.picture.width, map.picture.height);
  pen.drawImage(map.picture, 0, 0);
  pen.restore();
  pen.strokeStyle = theme.getPropertyValue("--ink");
  pen.lineWidth = 2;
  pen.strokeRect(left + map.x * across - 1, top + map.y * down - 1, across + 1, down + 1);
}

// What the chosen cell stands for, as a test of rows.
function spot() {
  const now = map.now, place = placeOf(map.x, map.y), title = where();
  if (now.kind === "hilbert") {
    const hosts = new Set(now.at.flatMap((cell, host) => (cell === place ? [host] : [])));
    return { title, has: (row) => hosts.has(rows.host[row]) };
  }
  const host = data.hosts.indexOf(now.kind === "grid" ? now.hosts[map.y] : now.hosts[0]);
  const port = now.kind === "grid" ? now.ports[map.x] : place;
  return { title, has: (row) => rows.host[row] === host && (rows.port[row] === port || rows.port[row] < 0) };
}

function pick() {
  view.spot = spot();
  filter();
  find("scroll").scrollIntoView({ block: "nearest" });
}

function mapping() {
  if (!data.maps.length) return;
  const canvas = find("cells");
  const from = (event) => [Math.floor((event.offsetX - map.margin[0]) / map.cell[0]), Math.floor((event.offsetY - map.margin[1]) / map.cell[1])];
  canvas.addEventListener("pointermove", (event) => point(...from(event)));
  canvas.addEventListener("click", (event) => { point(...from(event)); pick(); });
  canvas.addEventListener("focus", () => point(map.x, map.y));
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (step) point(map.x + step[0], map.y + step[1]);
    else if (event.key === "Home") point(0, map.y);
    else if (event.key === "End") point(map.width - 1, map.y);
    else if (event.key === "Enter") pick();
    else return;
    event.preventDefault();
  });
  find("which")?.addEventListener("change", (event) => choose(Number(event.target.value)));
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
  window.addEventListener("resize", paint);
  choose(0);
}

heads();
controls();
filter();
mapping();
