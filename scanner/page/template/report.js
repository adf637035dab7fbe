"use strict";
// The program of the page: a table by pages with its search and sorting, and the map on a canvas.
// It reads the data of this page and nothing else. Text is set as text, never as markup.

const data = JSON.parse(document.getElementById("data").textContent);
const find = (id) => document.getElementById(id);
const make = (name, text, more) => Object.assign(document.createElement(name), { textContent: text ?? "" }, more);
const total = data.total;

// Columns come as differences from row to row; [difference, times] stands for one that repeats.
function unpacked(packed) {
  const values = new Int32Array(total);
  let at = 0, value = 0;
  for (const item of packed) {
    if (typeof item === "number") values[at++] = value += item;
    else for (let left = item[1]; left; left--) values[at++] = value += item[0];
  }
  return values;
}
const rows = Object.fromEntries(Object.entries(data.rows).map(([name, list]) => [name, list && (name === "rtt" ? list : unpacked(list))]));
const styles = data.styles.map((style) => data.names[style]);  // of each kind
const styleOf = (row) => styles[rows.kind[row]];
const kindOf = (row) => data.kinds[rows.kind[row]];

// ── the table ──

const SIZE = 100, number = (value) => (value < 0 ? "" : value);  // rows of a page; a number that may be unknown
const columns = [
  { head: "Host", csv: "ip", key: (r) => rows.host[r], show: (r) => data.hosts[rows.host[r]] },
  { head: "Name", csv: "hostname", there: data.hostnames, show: (r) => data.hostnames[rows.host[r]] },
  { head: "Port", csv: "port", key: (r) => rows.place[r], value: (r) => number(data.places[rows.place[r]][0]), show: port },
  { csv: "protocol", value: (r) => kindOf(r)[0] },
  { head: "State", csv: "state", key: (r) => data.styles[rows.kind[r]], value: (r) => kindOf(r)[1], show: (r) => data.labels[styleOf(r)] },
  { head: "Reason", csv: "reason", show: (r) => kindOf(r)[2] },
  { head: "Service", csv: "service", show: (r) => data.places[rows.place[r]][1] },
  { head: "TTL", csv: "ttl", named: true, there: rows.ttl, show: (r) => number(rows.ttl[r]) },
  { head: "RTT ms", csv: "rtt_ms", named: true, there: rows.rtt, show: (r) => number(rows.rtt[r]) },
  { head: "Evidence", csv: "evidence", value: (r) => kindOf(r)[3].join(";"), show: (r) => kindOf(r)[3].join(" ") },
  { head: "From", csv: "icmp_from", named: true, there: rows.sender, show: (r) => data.addresses[rows.sender[r]] },
  { head: "Scanner", csv: "scanner_ip", named: true, there: rows.scanner, show: (r) => data.addresses[rows.scanner[r]] },
  { head: "Tunnel", csv: "tunnel", named: true, there: rows.tunnel, show: (r) => data.addresses[rows.tunnel[r]] },
  { head: "Vantage", csv: "vantage", named: true, there: rows.vantage, show: (r) => data.vantages[rows.vantage[r]] },
  { head: "Capture", csv: "capture", named: true, there: rows.capture, show: (r) => data.captures[rows.capture[r]] },
  { head: "Scan", csv: "scan", named: true, there: rows.scan, show: (r) => rows.scan[r] || "" },
].filter((column) => column.there !== null);
const shown = columns.filter((column) => column.head);
const view = { rows: new Uint32Array(0), sort: null, down: false, page: 0 };

function port(row) {
  const number = data.places[rows.place[row]][0];
  return number < 0 ? "host" : number + "/" + kindOf(row)[0];
}

for (const column of shown) {
  column.th = make("th", "", { scope: "col", role: "columnheader" });
  column.th.dataset.head = column.head;  // for paper
  column.th.append(make("button", column.head, { type: "button", onclick: () => sortBy(column) }));
  find("heads").append(column.th);
}

function sortBy(column) {
  Object.assign(view, { down: view.sort === column && !view.down, sort: column, page: 0 });
  arrange();
  save();
}

// Numbers to sort by: texts get their rank among all texts of the column; unknown values come last in both directions.
function keysOf({ key, show }) {
  const values = Array.from(view.rows, key ?? show);
  const known = [...new Set(values)].filter((value) => value !== "");
  known.sort(typeof known[0] === "number" ? (a, b) => a - b : undefined);
  const ranks = new Map(known.map((value, rank) => [value, view.down ? -rank : rank]));
  const keys = new Float64Array(total);
  view.rows.forEach((row, at) => { keys[row] = ranks.get(values[at]) ?? Infinity; });
  return keys;
}

function arrange() {
  for (const other of shown) other.th.ariaSort = other !== view.sort ? "none" : view.down ? "descending" : "ascending";
  if (view.sort) {
    const keys = keysOf(view.sort);
    view.rows.sort((a, b) => (keys[a] === keys[b] ? a - b : keys[a] - keys[b]));
  } else view.rows.sort();
  draw();
}

// The rows of this page; on paper, all of them.
function draw(all = false) {
  const count = view.rows.length, pages = Math.max(1, Math.ceil(count / SIZE));
  view.page = Math.min(view.page, pages - 1);
  const first = all ? 0 : view.page * SIZE;
  const lines = document.createDocumentFragment();
  view.rows.subarray(first, all ? count : first + SIZE).forEach((row, at) => lines.append(line(row, first + at)));
  find("body").replaceChildren(lines);
  find("table").ariaRowCount = count + 1;
  find("page").textContent = "Page " + (view.page + 1).toLocaleString("en") + " of " + pages.toLocaleString("en");
  find("back").disabled = !view.page;
  find("next").disabled = view.page + 1 >= pages;
}

function line(row, place) {
  const tr = make("tr", "", { role: "row", ariaRowIndex: place + 2 });
  for (const column of shown) {
    const value = String(column.show(row));
    const td = make("td", column.head === "Host" ? "" : value, { role: "cell" });
    if (column.named && value) td.dataset.head = column.head;
    if (column.head === "State") td.prepend(make("i", "", { className: "swatch s-" + styleOf(row) }));
    if (column.head === "Host") td.append(make("button", value, { type: "button", ariaExpanded: "false", onclick: () => explain(tr, row) }));
    tr.append(td);
  }
  return tr;
}

// Below the row, what its words mean; a second time takes it away.
function explain(tr, row) {
  const below = tr.nextSibling, open = below?.className !== "detail";
  tr.querySelector("button").ariaExpanded = open;
  if (!open) return below.remove();
  const [, state, reason, words] = kindOf(row);
  const cell = make("td", "", { colSpan: shown.length }), list = make("ul");
  for (const word of words) {
    const item = make("li");
    item.append(make("code", word), " ", data.sentences[word]);
    list.append(item);
  }
  const name = data.hostnames?.[rows.host[row]], title = data.hosts[rows.host[row]] + (name ? " (" + name + ") " : " ") + port(row);
  cell.append(make("strong", title + ": " + data.labels[styleOf(row)]), make("p", state + " (" + reason + "): " + (data.reasons[reason] ?? "") + "."), ...(words.length ? [list] : []));
  const detail = make("tr", "", { className: "detail" });
  detail.append(cell);
  tr.after(detail);
}

// ── search ──

// An address as [number, bits], or null.
function parsed(text) {
  const parts = text.split(".");
  if (parts.length === 4 && parts.every((part) => /^\d{1,3}$/.test(part) && part < 256)) {
    return [parts.reduce((sum, part) => (sum << 8n) + BigInt(part), 0n), 32];
  }
  if (!/^[0-9a-f:]*:[0-9a-f:]*$/.test(text)) return null;
  const [left, right, more] = text.split("::").map((half) => (half ? half.split(":") : []));
  const groups = right ? [...left, ...Array(Math.max(0, 8 - left.length - right.length)).fill("0"), ...right] : left;
  if (more || groups.length !== 8 || !groups.every((group) => /^[0-9a-f]{1,4}$/.test(group))) return null;
  return [groups.reduce((sum, group) => (sum << 16n) + BigInt("0x" + group), 0n), 128];
}

// Hosts within a network (`192.0.2.0/24`, or one address) as a test of rows; null if the text is none.
function network(text) {
  const [address, length] = text.split("/"), base = parsed(address);
  if (!base || (length !== undefined && !(/^\d{1,3}$/.test(length) && length <= base[1]))) return null;
  const shift = BigInt(base[1] - (length ?? base[1]));
  network.hosts ??= data.hosts.map(parsed);
  return over("host", data.hosts, (_, at) => network.hosts[at][1] === base[1] && network.hosts[at][0] >> shift === base[0] >> shift);
}

// What holds for the entries of a list holds for the rows that have their numbers in a column.
function over(column, list, test) {
  const flags = list && rows[column] ? list.map(test) : null;
  return flags ? (row) => flags[rows[column][row]] : () => false;
}

function ports(text) {
  const range = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(text);
  return range ? over("place", data.places, ([port]) => port >= +range[1] && port <= +(range[2] ?? range[1])) : () => false;
}

const either = (...tests) => (row) => tests.some((test) => test(row));
const is = (word) => (text) => text.toLowerCase() === word, has = (word) => (text) => text.toLowerCase().includes(word);
const fields = {
  port: ports,
  state: (word) => over("kind", data.kinds, (kind, at) => is(word)(kind[1]) || styles[at] === word),
  reason: (word) => over("kind", data.kinds, (kind) => is(word)(kind[2])),
  evidence: (word) => over("kind", data.kinds, (kind) => kind[3].some(is(word))),
  service: (word) => over("place", data.places, ([, name]) => is(word)(name)),
  host: (word) => network(word) ?? either(over("host", data.hosts, has(word)), over("host", data.hostnames, has(word))),
};

// One term → a test of rows: field:value,value, a port, an address, a network, or a word that occurs anywhere.
function testOf(term) {
  const [, field, values] = /^([a-z]+):(.+)$/.exec(term) ?? [];
  if (Object.hasOwn(fields, field ?? "")) return either(...values.split(",").map((value) => fields[field](value)));
  const [, alone, protocol] = /^(\d{1,5})(?:\/([a-z]+))?$/.exec(term) ?? [];
  if (alone) {
    const here = ports(alone), spoken = over("kind", data.kinds, (kind) => kind[0] === protocol);
    return protocol ? (row) => here(row) && spoken(row) : here;
  }
  const inside = network(term), elsewhere = (test) => ["sender", "scanner", "tunnel"].map((name) => over(name, data.addresses, test));
  if (inside) return either(inside, ...elsewhere((text) => text.split(" ").includes(term)));
  const kinds = over("kind", data.kinds, (kind, at) => has(term)([...kind.flat(), data.labels[styles[at]]].join(" ")));
  return either(fields.host(term), over("place", data.places, ([, name]) => has(term)(name)), kinds, ...elsewhere(has(term)));
}

const terms = () => find("search").value.toLowerCase().split(/\s+/).filter(Boolean);
const chosen = () => terms().filter((term) => term.startsWith("state:")).flatMap((term) => term.slice(6).split(","));

function filter() {
  const tests = terms().map((term) => {
    const test = testOf(term.replace(/^-(?=.)/, ""));
    return term.length > 1 && term[0] === "-" ? (row) => !test(row) : test;
  });
  const found = new Uint32Array(total);
  let count = 0;
  for (let row = 0; row < total; row++) if (tests.every((test) => test(row))) found[count++] = row;
  view.rows = found.slice(0, count);
  find("found").textContent = count.toLocaleString("en") + " of " + total.toLocaleString("en") + " rows" + (tests.length ? " match" : "");
  for (const button of find("states").children) button.ariaPressed = chosen().includes(button.value);
  arrange();
}

// Sorting, search and page live in the fragment of the address, so that a link shows what its sender saw.
function save() {
  const given = { q: find("search").value.trim(), sort: view.sort && (view.down ? "-" : "") + view.sort.csv, page: view.page && view.page + 1 };
  const text = new URLSearchParams(Object.entries(given).filter(([, value]) => value)).toString();
  history.replaceState(null, "", "#" + text);
}

function restore(event) {
  const given = new URLSearchParams(location.hash.slice(1)), sort = given.get("sort") ?? "";
  if (event && location.hash && !["q", "sort", "page"].some((name) => given.has(name))) return;  // a place on the page
  find("search").value = given.get("q") ?? "";
  view.down = sort.startsWith("-");
  view.sort = shown.find((column) => column.csv === sort.replace("-", "")) ?? null;
  view.page = Math.max(0, (parseInt(given.get("page") ?? 1, 10) || 1) - 1);
  filter();
  if (event) find("results").scrollIntoView();
}

function search(query) {
  if (query !== undefined) find("search").value = query;
  view.page = 0;
  filter();
  save();
}

function turn(pages) {
  view.page += pages;
  draw();
  save();
  find("results").scrollIntoView();
}

// What programs read back; a cell that a spreadsheet would take for a formula begins with an apostrophe.
function csv() {
  const cell = (value) => {
    const text = /^[=+@\t\r-]/.test(value) ? "'" + value : String(value);
    return /[",\r\n]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
  };
  const lines = Array.from(view.rows, (row) => columns.map(({ value, show }) => cell((value ?? show)(row))).join(","));
  return [columns.map((column) => column.csv).join(","), ...lines, ""].join("\n");
}

function download() {
  const url = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
  make("a", "", { href: url, download: "rows.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

function toggle(name) {
  const wanted = chosen().includes(name) ? chosen().filter((state) => state !== name) : [...chosen(), name];
  search([...(wanted.length ? ["state:" + wanted.join(",")] : []), ...terms().filter((term) => !term.startsWith("state:"))].join(" "));
}

function controls() {
  for (const button of find("states").children) button.addEventListener("click", () => toggle(button.value));
  find("add").addEventListener("change", () => { search((find("search").value + " " + find("add").value).trim()); find("add").value = ""; });
  let waiting = 0;
  find("search").addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(search, 80); });
  find("filters").addEventListener("submit", (event) => event.preventDefault());
  find("filters").addEventListener("reset", () => { view.sort = null; setTimeout(search); });
  find("save").addEventListener("click", download);
  find("back").addEventListener("click", () => turn(-1));
  find("next").addEventListener("click", () => turn(1));
  addEventListener("hashchange", restore);
  addEventListener("beforeprint", () => onPaper(true));
  addEventListener("afterprint", () => onPaper(false));
}

function onPaper(yes) {
  document.documentElement.classList.toggle("paper", yes);
  draw(yes);
  for (const details of document.querySelectorAll("details")) details.open = yes;
  if (data.maps.length) paint();
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
  const [start, whole] = parsed(base), number = start + (BigInt(cells) << BigInt(bits));
  if (whole === 32) return [24n, 16n, 8n, 0n].map((shift) => (number >> shift) & 255n).join(".");
  const groups = Array.from({ length: 8 }, (_, group) => ((number >> BigInt(112 - 16 * group)) & 0xffffn).toString(16)).join(":");
  return new URL("ip://[" + groups + "]").hostname.slice(1, -1);  // browsers write the short form (RFC 5952)
}

const map = { now: null, width: 0, height: 0, fold: 1, cell: [1, 1], margin: [0, 0], x: 0, y: 0 };

function choose(number) {
  Object.assign(map, { now: data.maps[number], x: 0, y: 0 });
  paint();
}

function about() {
  const now = map.now, cell = map.fold > 1 ? map.fold + " ports" : now.bits ? (2 ** now.bits).toLocaleString("en") + " addresses" : "";
  return (now.kind === "grid" ? "A row for each host, a column for each port: " + now.title + "."
    : (now.kind === "ports" ? "All 65,536 ports of " : "The addresses of ") + now.title
      + " along a Hilbert curve: neighbours stay close, and blocks are ranges. The first one is top left.")
    + (cell ? " A cell is " + cell + " and shows the strongest state." : "");
}

// Sizes in pixels of the screen. Where there is no room for every port of a grid, a cell stands for several.
function measure() {
  const now = map.now, grid = now.kind === "grid", sharp = window.devicePixelRatio || 1;
  const room = find("cells").parentElement.clientWidth - 8;
  map.margin = grid ? [Math.min(room / 3, 10 + 7.3 * Math.max(...now.hosts.map((host) => host.length))), 46] : [0, 0];
  const across = grid ? Math.max(1, now.ports.length) : 1 << now.order;
  map.fold = grid ? Math.ceil(across * 3 / (room - map.margin[0])) : 1;
  map.width = Math.ceil(across / map.fold);
  map.height = grid ? now.hosts.length : 1 << now.order;
  const fit = Math.max(1, Math.floor(((Math.min(room, grid ? room : 780) - map.margin[0]) / map.width) * sharp)) / sharp;
  map.cell = grid ? [Math.min(22, fit), map.height <= 40 ? 18 : map.height <= 100 ? 8 : 4] : Array(2).fill(Math.min(24, fit));
}

// The code of a cell, an index of names; of several ports the strongest state, which has the lowest code but 0.
function codeAt(x, y) {
  const now = map.now;
  if (now.kind !== "grid") return now.cells[along(now.order, x, y)];
  const across = Math.max(1, now.ports.length), first = y * across + x * map.fold;
  return [...now.cells.slice(first, Math.min(first + map.fold, (y + 1) * across))].filter((code) => code !== "0").sort()[0] ?? "0";
}

function paint() {
  measure();
  find("about").textContent = about();
  const canvas = find("cells"), sharp = window.devicePixelRatio || 1;
  const [across, down] = map.cell, [left, top] = map.margin;
  const width = left + map.width * across, height = top + map.height * down;
  Object.assign(canvas, { width: width * sharp, height: height * sharp });
  Object.assign(canvas.style, { width: width + "px", height: height + "px" });
  const pen = canvas.getContext("2d");
  pen.scale(sharp, sharp);
  const theme = getComputedStyle(document.documentElement);
  const colours = data.names.map((name) => theme.getPropertyValue("--" + name));
  const seam = across > 4 && down > 4 ? 1 : 0, large = across >= 8 && down >= 8;
  for (let y = 0; y < map.height; y++) {
    for (let x = 0; x < map.width; x++) {
      const code = codeAt(x, y), less = large && code > 1 ? Math.min(across, down) / 5 : 0;  // open cells are also larger
      pen.fillStyle = colours[code];
      pen.fillRect(left + x * across + less, top + y * down + less, across - seam - 2 * less, down - seam - 2 * less);
    }
  }
  if (map.now.kind === "grid") inscribe(pen, theme);
  map.picture = make("canvas", "", { width: canvas.width, height: canvas.height });
  map.picture.getContext("2d").drawImage(canvas, 0, 0);
}

function inscribe(pen, theme) {
  const [across, down] = map.cell, [left, top] = map.margin;
  Object.assign(pen, { fillStyle: theme.getPropertyValue("--ink"), font: "12px ui-monospace, monospace", textBaseline: "middle", textAlign: "right" });
  const lines = Math.ceil(14 / down), steps = Math.ceil(14 / across);
  for (let y = 0; y < map.height; y += lines) pen.fillText(map.now.hosts[y], left - 6, top + (y + .5) * down, left - 8);
  pen.textAlign = "left";
  for (let x = 0; x < map.width && map.now.ports.length; x += steps) {
    pen.save();
    pen.translate(left + (x + .5) * across, top - 5);
    pen.rotate(-Math.PI / 2);
    pen.fillText(map.now.ports[x * map.fold], 0, 0);
    pen.restore();
  }
}

// What the chosen cell stands for, as [words for people, terms of the search].
function where() {
  const now = map.now;
  if (now.kind === "hilbert") {
    const place = address(now.base, now.bits, along(now.order, map.x, map.y)), whole = now.base.includes(":") ? 128 : 32;
    const text = place + (now.bits ? "/" + (whole - now.bits) : "");
    return [text, text];
  }
  const host = now.hosts[now.kind === "grid" ? map.y : 0], of = now.ports.slice(map.x * map.fold, (map.x + 1) * map.fold);
  const ports = now.kind === "ports" ? String(along(now.order, map.x, map.y)) : of.length > 1 ? of[0] + "-" + of.at(-1) : String(of[0] ?? "");
  return ports ? [host + (of.length > 1 ? " ports " : " port ") + ports, "host:" + host + " port:" + ports] : [host, "host:" + host];
}

function point(x, y) {
  map.x = Math.max(0, Math.min(map.width - 1, x));
  map.y = Math.max(0, Math.min(map.height - 1, y));
  find("cell").textContent = where()[0] + ": " + (data.labels[data.names[codeAt(map.x, map.y)]] ?? "no row");
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

function pick() {
  search(where()[1]);
  find("results").scrollIntoView();
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
    else if (event.key === "Home" || event.key === "End") point(event.key === "End" ? map.width - 1 : 0, map.y);
    else if (event.key === "Enter") pick();
    else return;
    event.preventDefault();
  });
  find("which")?.addEventListener("change", (event) => choose(Number(event.target.value)));
  for (const query of ["(prefers-color-scheme: dark)", "(prefers-contrast: more)"]) window.matchMedia(query).addEventListener("change", paint);
  window.addEventListener("resize", paint);
  choose(0);
}

controls();
restore();
mapping();
