// Data, numbers, elements and the state of the page. Text from the data only ever becomes a text node or an attribute
// that holds no code; the page's policy forbids everything else.
const data = JSON.parse(document.getElementById("data").textContent);
for (const row of data.rows) for (const [key, values] of Object.entries(data.common)) row[key] = values[row[key]];
// Texts of stress tests are written once: a list of one number is the place of a text.
const worded = (value) => (Array.isArray(value)
  ? (value.length === 1 && Number.isInteger(value[0]) ? data.words[value[0]] : value.map(worded))
  : value !== null && typeof value === "object"
    ? Object.fromEntries(Object.entries(value).map(([key, item]) => [key, worded(item)])) : value);
const rows = new Map(data.rows.map((row) => [row.id, row]));
const architectures = { dense: "dense", moe: "MoE", undisclosed: "undisclosed" };
const byId = (id) => document.getElementById(id);

const DASH = "\u2013";
const MINUS = "\u2212";

// As decimals() of text.py.
function num(value, places = 3, signed = false) {
  if (value === null || value === undefined) return DASH;
  const text = Math.abs(value).toFixed(places);
  const zero = Number(text) === 0;
  return (value < 0 && !zero ? MINUS : signed && value > 0 && !zero ? "+" : "") + text;
}

function span(low, high, places = 3, signed = false) {
  return low === null || high === null || low === undefined ? "" : `[${num(low, places, signed)}, ${num(high, places, signed)}]`;
}

// As parameters() of text.py.
function size(count) {
  if (count === null) return DASH;
  for (const [unit, letter] of [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "K"]]) {
    if (count >= 0.9995 * unit) return (count / unit).toFixed(count / unit >= 100 ? 0 : 1) + letter;
  }
  return String(count);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== "") element.append(child);
  }
  return element;
}

const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

const name = (row) => el("bdi", null, row.name);
const link = (row) => el("a", { href: hash({ view: "model", arg: row.id }) }, name(row));
const small = (text) => el("span", { class: "i" }, text);
const tag = (row) => el("span", { class: `a ${row.arch}` }, architectures[row.arch]);
const estimate = (e, places, signed) => [num(e[0], places, signed), " ", small(span(e[1], e[2], places, signed))];
const scroll = (label, ...children) => el("div", { class: "scroll", role: "region", "aria-label": label, tabindex: "0" }, children);

// A line from 0 to 1 with an estimate and its interval on it.
function whisker(e) {
  if (e[0] === null) return null;
  const at = (value) => (100 * value).toFixed(1);
  const interval = e[1] !== null && e[2] !== null;
  return svg("svg", { class: "w", viewBox: "0 0 100 8", "aria-hidden": "true" },
    svg("line", { x1: 0, x2: 100, y1: 4, y2: 4 }),
    interval ? svg("line", { class: "i", x1: at(e[1]), x2: at(e[2]), y1: 4, y2: 4 }) : null,
    svg("circle", { cx: at(e[0]), cy: 4, r: 3 }));
}

// heads: texts or [text, "n"] for a column of numbers; body: rows of cells, the first one a heading; a cell is what
// el() takes, or {n: ...} for a number.
function table(caption, heads, body) {
  return scroll(caption, el("table", { class: "plain" }, el("caption", { class: "hide" }, caption),
    el("thead", null, el("tr", null, heads.map((head) => Array.isArray(head)
      ? el("th", { scope: "col", class: head[1] }, head[0]) : el("th", { scope: "col" }, head)))),
    el("tbody", null, body.map((cells) => el("tr", null, cells.map((cell, i) => i === 0
      ? el("th", { scope: "row" }, cell)
      : cell !== null && typeof cell === "object" && "n" in cell ? el("td", { class: "n" }, cell.n) : el("td", null, cell)))))));
}

// The state of the page is its fragment: view, argument and parameters. What is as by default is left out.
const defaults = { q: "", arch: "", sort: "rank", reading: data.reading, a: "", b: "" };
const filters = { q: "", arch: "", sort: "rank", reading: data.reading };

function hash(state) {
  const path = [state.view, state.arg].filter(Boolean).map(encodeURIComponent).join("/");
  const search = new URLSearchParams(Object.entries(state.params || {}).filter(([key, value]) => value !== defaults[key]));
  const text = search.toString();
  return `#${path}${text ? `?${text}` : ""}`;
}

function parse(fragment) {
  const [path, search = ""] = fragment.replace(/^#/, "").split(/\?(.*)/s);
  const decode = (text) => { try { return decodeURIComponent(text); } catch { return text; } };
  const [view, ...rest] = path.split("/");
  return { view: decode(view), arg: decode(rest.join("/")), params: Object.fromEntries(new URLSearchParams(search)) };
}
