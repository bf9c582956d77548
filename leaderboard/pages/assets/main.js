// Which view is shown, from the address.
const views = new Map([...document.querySelectorAll("section.view")].map((section) => [section.id, section]));
let current = { view: "ranking", arg: "", params: {} };
let started = false;

function show() {
  const state = parse(location.hash || "#ranking");
  if (state.view === "main") {
    byId("main").focus();
    return;
  }
  if (!views.has(state.view)) state.view = "ranking";
  const moved = state.view !== current.view || state.arg !== current.arg;
  current = state;
  for (const [id, section] of views) section.hidden = id !== state.view;
  for (const anchor of document.querySelectorAll("nav a[data-view]")) {
    if (anchor.dataset.view === state.view) anchor.setAttribute("aria-current", "page");
    else anchor.removeAttribute("aria-current");
  }
  const filtered = state.view === "ranking" || state.view === "hazards";
  byId("filters").hidden = !filtered || data.rows.length === 0;
  byId("reading-field").hidden = state.view !== "ranking";
  if (filtered) {
    for (const key of Object.keys(filters)) filters[key] = state.params[key] ?? defaults[key];
    if (!(filters.arch in architectures)) filters.arch = "";
    if (filters.reading !== "strict") filters.reading = "refused";
    applyAll();
  }
  const section = views.get(state.view);
  let title = section.querySelector("h2").textContent;
  if (state.view === "model") title = showModel(state.arg);
  if (state.view === "compare") title = showCompare(state.params);
  document.title = `${title} \u00b7 Demur`;
  if (!moved) return;
  const target = state.arg && state.view === "methods" ? byId(`methods/${state.arg}`) : null;
  if (target) {
    target.setAttribute("tabindex", "-1");
    target.focus();
    target.scrollIntoView();
  } else if (started) {
    section.querySelector("h2").focus({ preventScroll: true });
    window.scrollTo(0, 0);
  }
}

// Marks of a chart name their models and lead to them; the tables do the same for the keyboard.
function initCharts() {
  const rowOf = (target) => {
    const mark = target.closest("[data-at]");
    return [mark, mark && data.rows[Number(mark.dataset.at)]];
  };
  for (const plot of document.querySelectorAll(".plot")) {
    plot.addEventListener("click", (event) => {
      const [, row] = rowOf(event.target);
      if (row) location.hash = hash({ view: "model", arg: row.id });
    });
    plot.addEventListener("pointerover", (event) => {
      const [mark, row] = rowOf(event.target);
      if (!row || mark.querySelector("title")) return;
      const figures = row[data.reading];
      mark.append(svg("title", null, `${row.name}: C@${data.k} ${num(figures.c[0])} ${span(figures.c[1], figures.c[2])}`));
    });
  }
}

document.documentElement.classList.add("scripted");
initTables();
initCompare();
initCharts();
window.addEventListener("hashchange", show);
show();
started = true;
document.documentElement.dataset.ready = String(Math.round(performance.now()));
