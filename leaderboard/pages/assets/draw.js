// C@k curves of one or two models, drawn here because there are too many pairs of models to draw beforehand. Colours
// are the page's variables; a saved file gets the light ones.
const WIDE = 440;
const HIGH = 290;
const LEFT = 58;
const BOTTOM = 42;
const TOP = 12;

function curveChart(shownRows, reading, label) {
  const last = Math.max(1, ...shownRows.flatMap((row) => row[reading].curve.filter((point) => point[1] !== null).map((point) => point[0])));
  const right = 130;
  const x = (k) => LEFT + (last > 1 ? (k - 1) / (last - 1) : 0) * (WIDE - LEFT - right);
  const y = (value) => TOP + (1 - value) * (HIGH - TOP - BOTTOM);
  const picture = svg("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, "aria-hidden": "true", class: "drawn" });
  const text = (attributes, words) => picture.append(svg("text", { "font-size": 12, "font-family": "sans-serif", fill: "var(--muted)", ...attributes }, words));
  for (const value of [0, 0.25, 0.5, 0.75, 1]) {
    picture.append(svg("line", { x1: LEFT, x2: x(last), y1: y(value), y2: y(value), stroke: "var(--rule)" }));
    text({ x: LEFT - 7, y: y(value) + 4, "text-anchor": "end" }, value.toFixed(2));
  }
  for (let k = 1; k <= last; k += 1) text({ x: x(k), y: HIGH - BOTTOM + 18, "text-anchor": "middle" }, String(k));
  text({ x: (LEFT + x(last)) / 2, y: HIGH - 6, "text-anchor": "middle", fill: "var(--ink)" }, "k: how many times in a row");
  text({ x: 12, y: (TOP + HIGH - BOTTOM) / 2, transform: `rotate(-90 12 ${(TOP + HIGH - BOTTOM) / 2})`, "text-anchor": "middle", fill: "var(--ink)" }, "C@k");
  const roles = ["var(--dense)", "var(--moe)"];
  const ends = shownRows.map((row, at) => {
    const points = row[reading].curve.filter((point) => point[1] !== null);
    if (points.length === 0) return null;
    const path = (pick) => points.map((point) => `${x(point[0]).toFixed(1)},${y(pick(point)).toFixed(1)}`);
    if (points.every((point) => point[2] !== null && point[3] !== null)) {
      const band = `M${path((p) => p[3]).join("L")}L${path((p) => p[2]).reverse().join("L")}Z`;
      picture.append(svg("path", { d: band, fill: roles[at], opacity: 0.13 }));
    }
    picture.append(svg("path", { d: `M${path((p) => p[1]).join("L")}`, fill: "none", stroke: roles[at], "stroke-width": 2, "stroke-dasharray": at ? "7 4" : null }));
    return { place: y(points.at(-1)[1]), x: x(points.at(-1)[0]), row, at };
  }).filter(Boolean);
  if (ends.length === 2 && Math.abs(ends[0].place - ends[1].place) < 15) {
    const upper = ends[0].place <= ends[1].place ? 0 : 1;
    const middle = Math.min((ends[0].place + ends[1].place) / 2, y(0) - 8);
    ends[upper].place = middle - 7.5;
    ends[1 - upper].place = middle + 7.5;
  }
  for (const end of ends) text({ x: end.x + 7, y: end.place + 4, fill: roles[end.at] }, shorten(end.row.name, 19));
  return el("figure", { class: "chart" }, el("div", { class: "plot", role: "img", "aria-label": label }, picture),
    el("figcaption", null, label), el("p", { class: "files" },
      saveButton("Save as SVG", "curves.svg", "image/svg+xml", () => svgOf(picture)), " ",
      saveButton("Save as PDF", "curves.pdf", "application/pdf", () => pdfOf(picture))));
}

// As shorten() of text.py.
function shorten(text, limit) {
  const short = text.replace(/\p{C}/gu, "").split("/").at(-1).trim() || "?";
  if (short.length <= limit) return short;
  const tail = Math.floor((limit - 1) / 3);
  return `${short.slice(0, limit - 1 - tail)}\u2026${short.slice(-tail)}`;
}

function svgOf(picture) {
  const copy = picture.cloneNode(true);
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.removeAttribute("class");
  copy.prepend(svg("rect", { width: WIDE, height: HIGH, fill: "var(--paper)" }));
  return new XMLSerializer().serializeToString(copy).replace(/var\(--(\w+)\)/g, (_, role) => data.palette[role]);
}

function saveButton(words, file, type, make) {
  const button = el("button", { type: "button" }, words);
  button.addEventListener("click", () => {
    const address = URL.createObjectURL(new Blob([make()], { type }));
    const anchor = el("a", { href: address, download: file });
    document.body.append(anchor);
    anchor.click();
    anchor.remove();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
  });
  return button;
}
