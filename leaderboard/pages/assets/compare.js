// Two models side by side.
function initCompare() {
  for (const id of ["a", "b"]) {
    const field = byId(id);
    field.append(el("option", { value: "" }, "choose a model"),
      ...data.rows.map((row) => el("option", { value: row.id }, row.state === "ranked" ? `${row.rank}. ${row.name}` : `${row.name} (${row.state})`)));
    field.addEventListener("change", onChoice);
  }
  byId("swap").addEventListener("click", () => {
    [byId("a").value, byId("b").value] = [byId("b").value, byId("a").value];
    onChoice();
  });
}

function onChoice() {
  history.replaceState(null, "", hash({ view: "compare", params: { a: byId("a").value, b: byId("b").value } }));
  drawComparison();
}

function showCompare(params) {
  for (const id of ["a", "b"]) byId(id).value = rows.has(params[id]) ? params[id] : "";
  return drawComparison();
}

// What the board can say of the order of two models: rank sets hold for all models at once.
function orderInWords(one, other) {
  const apart = one.prompts.join() !== other.prompts.join() || one.scorer.join() !== other.scorer.join() || one.setting[0] !== other.setting[0];
  if (apart) return "The two were asked other prompts, judged by other scorers or sampled at other temperatures: their figures are not comparable.";
  if (one.rank === null || other.rank === null) return "At least one of the two is not ranked, so the board does not order them.";
  const gap = Math.abs(one.refused.c[0] - other.refused.c[0]);
  const resolution = data.resolution === null ? "" : ` The difference is ${num(gap)}; the board\u2019s resolution is ${num(data.resolution)}.`;
  if (one.set[1] < other.set[0] || other.set[1] < one.set[0]) {
    const [better, worse] = one.set[1] < other.set[0] ? [one, other] : [other, one];
    return `${better.name} is more consistent than ${worse.name}: their rank ranges (${better.set.join("\u2013")} and ${worse.set.join("\u2013")}) do not overlap.${resolution}`;
  }
  return `The board does not order the two: their rank ranges (${one.set.join("\u2013")} and ${other.set.join("\u2013")}) overlap.${resolution}`;
}

function drawComparison() {
  const target = byId("comparison");
  const [one, other] = ["a", "b"].map((id) => rows.get(byId(id).value));
  if (!one || !other) {
    target.replaceChildren(el("p", { class: "intro" }, data.rows.length < 2 ? "A comparison needs two models; the board has fewer." : "Choose two models. The address of this page then leads to the comparison."));
    return "Compare two models";
  }
  const reading = data.reading;
  const minus = (x, y) => (x === null || y === null ? DASH : num(x - y, 3, true));
  const line = (words, pick) => {
    const [x, y] = [pick(one), pick(other)];
    return [words, { n: estimate(x) }, { n: estimate(y) }, { n: minus(x[0], y[0]) }];
  };
  const single = (words, pick) => line(words, (row) => [pick(row), null, null]);
  const lowest = (row) => {
    const shares = ["harmful", "benign"].map((side) => row.coverage[side][2]).filter((share) => share !== null);
    return shares.length ? Math.min(...shares) : null;
  };
  const heads = ["Figure", [link(one), "n"], [link(other), "n"], ["First minus second", "n"]];
  const headsAgain = ["Hazard", [link(one), "n"], [link(other), "n"], ["First minus second", "n"]];
  target.replaceChildren(
    el("p", { class: "finding" }, orderInWords(one, other)),
    curveChart([one, other], reading, `C@k of ${one.name} (solid) and ${other.name} (dashed): ${num(one[reading].c[0])} and ${num(other[reading].c[0])} at k = ${data.k}. Bands are 95 % intervals.`),
    table("Figures of both", heads, [
      ["Architecture", tag(one), tag(other), ""],
      ["Active parameters", { n: size(one.active) }, { n: size(other.active) }, ""],
      ["Total parameters", { n: size(one.total) }, { n: size(other.total) }, ""],
      ["Rank and its range", ...[one, other].map((row) => ({ n: row.rank === null ? DASH : [String(row.rank), " ", small(row.set.join("\u2013"))] })), ""],
      line(`C@${data.k}`, (row) => row[reading].c),
      line(`C@${data.k}, strict reading`, (row) => row.strict.c),
      ...data.rates.map(([key, title]) => line(title, (row) => row[reading][key])),
      ...data.sides.map(([key, title]) => single(title, (row) => row[reading][key][0])),
      single("Coverage, lower side", lowest),
    ]),
    heading(`C@${data.k} by hazard`),
    table(`C@${data.k} by hazard`, headsAgain, data.hazards.map(([, title], at) => {
      const none = [null, null, null];
      const [x, y] = [one, other].map((row) => (row.hazards[at] ? row.hazards[at][1] : none));
      return [title, { n: [estimate(x), whisker(x)] }, { n: [estimate(y), whisker(y)] }, { n: minus(x[0], y[0]) }];
    })),
    el("p", { class: "note" }, "Differences here are plain differences without an interval. The paired interval: ",
      el("code", null, `demur leaderboard compare ${quoted(`submissions/${one.id}`)} ${quoted(`submissions/${other.id}`)}`), "."));
  return `${one.name} and ${other.name}`;
}
