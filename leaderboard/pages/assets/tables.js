// Sorting, filtering and the reading of the ranking.
const ranking = byId("rank-table");
const heat = byId("heat-table");

// The number that a cell of numbers begins with; its interval comes after it.
function leading(text) {
  const found = /^[-\u2212+]?[\d.]+/.exec(text);
  return found ? Number(found[0].replace("\u2212", "-")) : null;
}

const keyOf = (cell) => "f" in cell.dataset ? rows.get(cell.parentElement.dataset.row)[filters.reading][cell.dataset.f][0]
  : "v" in cell.dataset ? (cell.dataset.v === "" ? null : Number(cell.dataset.v))
  : cell.classList.contains("n") ? leading(cell.textContent.trim())
    : cell.textContent.trim().toLowerCase();

// What is undefined stays at the end, whichever way the table is sorted.
function order(x, y, sign) {
  if (x === null || y === null) return (x === null) - (y === null);
  return sign * (typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y), "en", { numeric: true }));
}

function sortTable(target, key, sign) {
  const heads = [...target.tHead.rows[0].cells];
  const column = heads.findIndex((head) => head.dataset.key === key);
  if (column < 0) return;
  const body = target.tBodies[0];
  const keyed = [...body.rows].map((row, at) => [row, keyOf(row.cells[column]), at]);
  keyed.sort((x, y) => order(x[1], y[1], sign) || x[2] - y[2]);
  body.append(...keyed.map(([row]) => row));
  for (const head of heads) head.removeAttribute("aria-sort");
  heads[column].setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
  target.classList.toggle("grouped", key === "rank" && sign > 0);
}

// Numbers that are better when higher start with the highest.
const startsHigh = new Set(["c", "coverage", "difference", ...[...data.rates, ...data.sides].filter(([, , high]) => high).map(([key]) => key)]);

function nextSort(target, head) {
  const now = head.getAttribute("aria-sort");
  const key = head.dataset.key;
  const first = startsHigh.has(key) || (target === heat && head.classList.contains("n") && key !== "rank") ? -1 : 1;
  return now ? (now === "ascending" ? -1 : 1) : first;
}

function onSort(target, head) {
  const sign = nextSort(target, head);
  if (target === ranking || target === heat) {
    filters.sort = (sign < 0 ? "-" : "") + head.dataset.key;
    remember();
  } else {
    sortTable(target, head.dataset.key, sign);
  }
}

function applyReading() {
  const strict = filters.reading !== data.reading;
  for (const note of document.querySelectorAll(".strict-note")) note.hidden = !strict;
  for (const line of ranking ? ranking.tBodies[0].rows : []) {
    const figures = rows.get(line.dataset.row)[filters.reading];
    for (const cell of line.cells) {
      const key = cell.dataset.f;
      if (!key) continue;
      const value = figures[key][0];
      if (key === "c") {
        cell.replaceChildren(...[el("b", null, num(value)), " ", small(span(figures.c[1], figures.c[2])), whisker(figures.c)].filter(Boolean));
      } else {
        cell.textContent = num(value);
      }
    }
  }
}

function matches(row) {
  const words = filters.q.toLowerCase().split(/\s+/).filter(Boolean);
  const text = [row.name, row.maker, row.base || "", row.formerly.join(" "), row.tier].join(" ").toLowerCase();
  return (!filters.arch || row.arch === filters.arch) && words.every((word) => text.includes(word));
}

function applyFilters() {
  let shown = 0;
  let ranked = 0;
  for (const line of document.querySelectorAll("tr[data-row]")) {
    const row = rows.get(line.dataset.row);
    line.hidden = !matches(row);
  }
  for (const row of data.rows) {
    if (row.state !== "ranked") continue;
    ranked += 1;
    shown += matches(row);
  }
  byId("count").textContent = shown === ranked ? `${ranked} ranked` : `${shown} of ${ranked} ranked`;
  const key = filters.sort.replace(/^-/, "");
  const sign = filters.sort.startsWith("-") ? -1 : 1;
  if (ranking) sortTable(ranking, key, sign);
  if (heat) sortTable(heat, key, sign);
}

let drawnReading = data.reading;

function applyAll() {
  if (drawnReading !== filters.reading) {
    drawnReading = filters.reading;
    applyReading();
  }
  applyFilters();
  for (const key of ["q", "arch", "reading"]) {
    const field = byId(key);
    if (field.value !== filters[key]) field.value = filters[key];
  }
  for (const view of ["ranking", "hazards"]) {
    const anchor = document.querySelector(`nav a[data-view="${view}"]`);
    if (anchor) anchor.setAttribute("href", hash({ view, params: filters }));
  }
}

// Write the filters into the address without a new entry in the history, and show them.
function remember() {
  history.replaceState(null, "", hash({ view: current.view, params: filters }));
  applyAll();
}

function initTables() {
  for (const target of document.querySelectorAll("table[data-sortable]")) {
    for (const head of target.tHead.rows[0].cells) {
      const button = head.querySelector("button");
      if (button) button.addEventListener("click", () => onSort(target, head));
    }
  }
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  for (const key of ["q", "arch", "reading"]) {
    byId(key).addEventListener("input", (event) => {
      filters[key] = event.target.value;
      remember();
    });
  }
}
