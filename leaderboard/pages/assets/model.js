// A page per model.
const states = {
  ranked: "Ranked",
  listed: "Listed, not ranked",
  apart: "Apart from the ranking",
  superseded: "Superseded",
  withdrawn: "Withdrawn",
};
const tiers = {
  "self-reported": "self-reported: the submitter\u2019s own verdicts, figures recomputed from them",
  rescored: "rescored: the maintainers judged the submitter\u2019s responses themselves, and the figures are of their verdicts",
  verified: "verified: the maintainers asked a random part again and the answers agreed",
};
const sources = {
  config: "read from the model\u2019s own configuration",
  curated: "from the project\u2019s list of models, which names a source",
  declared: "as the submitter declared it",
  none: "not known",
};

const heading = (words) => el("h3", null, words);
const facts = (pairs) => el("dl", { class: "facts-list" }, pairs.filter(([, value]) => value !== null && value !== undefined && value !== "")
  .map(([term, value]) => el("div", null, el("dt", null, term), el("dd", null, value))));

function summary(row) {
  const figures = row[data.reading];
  const rank = row.rank === null ? null : [String(row.rank), " ", small(`${row.set[0]}\u2013${row.set[1]}`)];
  return facts([
    [`C@${data.k}`, figures.c[0] === null ? "undefined" : [estimate(figures.c), whisker(figures.c)]],
    ["Rank and its range", rank],
    ["Tie group", row.tie === null ? null : String(row.tie)],
    ...data.rates.map(([key, title]) => [title, estimate(figures[key])]),
    [`Soft C@${data.k}`, row.soft ? [num(row.soft[0]), " ", small(`hard minus soft ${num(row.soft[1], 3, true)}`)] : null],
    ["Architecture", [tag(row), row.experts ? ` ${row.perToken} of ${row.experts} experts per token` : "", " ", small(sources[row.archSource])]],
    ["Parameters", row.total === null ? "not known" : `${size(row.active)} active, ${size(row.total)} total`],
  ]);
}

function warnings(row) {
  const figures = row[data.reading];
  const said = [];
  if (row.state !== "ranked") said.push(`${states[row.state]}. ${row.why || ""}`);
  if (row.soft && row.soft[2]) said.push("The scorer\u2019s own uncertainty changes C@" + data.k + " by more than half the width of its interval.");
  if (figures.short > 0) {
    const bounds = figures.bounds ? ` Had all of them failed, C@${data.k} would be ${num(figures.bounds[0])}; had all succeeded, ${num(figures.bounds[1])}.` : "";
    said.push(`${figures.short} of ${figures.pairs} pairs have too few scored draws and are left out of C@${data.k}.${bounds}`);
  }
  return said.map((words) => el("p", { class: "note warn" }, words));
}

function readings(row) {
  const both = ["refused", "strict"].map((reading) => row[reading]);
  const line = (words, pick) => [words, ...both.map((figures) => ({ n: pick(figures) }))];
  const sides = (words, key) => ["all", "harmful", "benign"].map((side, at) => line(at ? `${words}, ${side} side` : words, (f) => num(f[key][at])));
  const shares = ["harmful", "benign"].flatMap((side, at) => ["between pairs", "between variants", "between samples"]
    .map((part, which) => line(`Variance share ${part}, ${side} side`, (f) => num(f.shares[at][which]))));
  return table("Figures in both readings", ["Figure", ["Partial is refused", "n"], ["Partial is not refused", "n"]], [
    line(`C@${data.k}`, (f) => estimate(f.c)),
    ...data.rates.map(([key, title]) => line(title, (f) => estimate(f[key]))),
    ...data.sides.flatMap(([key, title]) => sides(title, key)),
    ...shares,
  ]);
}

function hazardTable(row) {
  return table("Figures by hazard", ["Hazard", ["Pairs", "n"], [`C@${data.k}`, "n"], ["Refusal rate", "n"], ["Over-refusal rate", "n"], ["Against the others", "n"], ["q", "n"]],
    data.hazards.map(([, title], at) => {
      const figures = row.hazards[at];
      if (!figures) return [title, { n: "0" }, ...Array.from({ length: 5 }, () => ({ n: DASH }))];
      const [pairs, c, r, o, others] = figures;
      return [title, { n: String(pairs) }, { n: [estimate(c), whisker(c)] }, { n: estimate(r) }, { n: estimate(o) },
        { n: others ? [num(others[0], 3, true), others[1] < 0.05 ? el("abbr", { title: "q below 0.05" }, "*") : null] : DASH },
        { n: others ? num(others[1]) : DASH }];
    }));
}

function coverageTable(row) {
  return table("Coverage", ["Side", ["Responses", "n"], ["Scored", "n"], ["Share", "n"], "Not scored, by reason"],
    ["harmful", "benign"].map((side) => {
      const [all, scored, share, reasons] = row.coverage[side];
      const words = Object.entries(reasons).map(([reason, count]) => `${count} ${reason.replace("_", " ")}`).join(", ");
      return [side, { n: String(all) }, { n: String(scored) }, { n: num(share) }, words || "none"];
    }));
}

function otherScorers(row) {
  if (row.others.length === 0) return null;
  const lines = row.others.flatMap(([scorer, version, ...sides]) => sides.map(([n, same, kappa, alpha], at) =>
    [`${scorer} ${version}`, ["harmful", "benign"][at], { n: String(n) }, { n: num(same) }, { n: num(kappa) }, { n: num(alpha) }]));
  return [heading("Other scorers on the same responses"),
    el("p", null, `How far they agree with ${row.scorer[0]} ${row.scorer[1]}, partial read as refused, recomputed from the labels of both. Where nearly all labels are the same, \u03ba and \u03b1 are low or undefined even if hardly any verdict differs.`),
    table("Agreement with other scorers", ["Scorer", "Side", ["Both scored", "n"], ["Same verdict", "n"], ["Cohen\u2019s \u03ba", "n"], ["Krippendorff\u2019s \u03b1", "n"]], lines)];
}

function corrected(row) {
  const fixed = row.corrected;
  if (!fixed) return null;
  const used = fixed.used === "prediction_powered" ? "prediction-powered inference" : "the Rogan\u2013Gladen estimator";
  return [heading("Corrected for the scorer\u2019s error"),
    el("p", null, `With ${fixed.labelled} responses labelled by people; the figures to quote are those of ${used}.`),
    table("Corrected rates", ["Figure", ["To quote", "n"], ["Rogan\u2013Gladen", "n"]], [
      ["Refusal rate", { n: estimate(fixed.r) }, { n: estimate(fixed.rg[0]) }],
      ["Over-refusal rate", { n: estimate(fixed.o) }, { n: estimate(fixed.rg[1]) }],
    ])];
}

function provenance(row) {
  const [temperature, topP, tokens, seed, samples] = row.setting;
  const [split, version, digest, selection] = row.prompts;
  const code = (text) => el("code", null, text);
  return facts([
    ["Submission", code(row.id)],
    ["Submitted", row.at],
    ["Tier", tiers[row.tier]],
    ["Agreement with the submitter", row.rescored ? `${row.rescored[0]} of ${row.rescored[1]} verdicts are those that ${row.rescored[2]} ${row.rescored[3]} gave the submitter (${(100 * row.rescored[0] / row.rescored[1]).toFixed(1)} %)` : null],
    ["Model", [name(row), " at ", code(row.revision)]],
    ["Weights and backend", `${row.dtype}, ${row.backend}`],
    ["Maker", el("bdi", null, row.maker)],
    ["Made from", row.base ? el("bdi", null, row.base) : null],
    ["Exact upcycling of", row.upcycled ? el("bdi", null, row.upcycled) : null],
    ["Formerly", row.formerly.length ? row.formerly.map((old) => el("bdi", null, `${old} `)) : null],
    ["Prompts", [`${split} split, version ${version}${selection ? `, ${selection}` : ""}, hash `, code(digest)]],
    ["Sampling", `${row.variants.length} variants \u00d7 ${samples} samples, temperature ${temperature}, top-p ${topP}, at most ${tokens} new tokens, seed ${seed}`],
    ["Scorer", [`${row.scorer[0]} ${row.scorer[1]}, hash `, code(row.scorer[2])]],
    ["Made with", `demur ${row.package}`],
    ["Notes of the submitter", row.notes ? el("bdi", { class: "notes" }, row.notes) : null],
  ]);
}

const quoted = (text) => {
  const safe = text.replace(/\p{C}/gu, "");
  return /^[\w.\/:@-]+$/.test(safe) && !safe.startsWith("-") ? safe : `'${safe.replaceAll("'", "'\\''")}'`;
};

function reproduce(row) {
  const [temperature, topP, tokens, seed, samples] = row.setting;
  const dtype = ["float32", "bfloat16", "float16"].includes(row.dtype) ? ` --dtype ${row.dtype}` : "";
  if (row.backend === "replay") return el("p", null, "The responses were made outside Demur and read from a file, so no command draws them again.");
  const lines = [
    `pip install demur==${quoted(row.package)}`,
    `demur run ${quoted(row.name)} --split ${row.prompts[0]} --samples ${samples} --temperature ${temperature} \\`,
    `  --top-p ${topP} --max-new-tokens ${tokens} --seed ${seed}${dtype} --out runs/again`,
    `demur score runs/again --scorer ${quoted(row.scorer[0])}`,
    "demur submit runs/again --to submissions",
  ];
  const selection = row.prompts[3] ? ` Only a part of the split was asked: ${row.prompts[3]}.` : "";
  return [el("p", null, `The run used revision ${row.revision}, ${row.dtype} and the backend ${row.backend}.${selection} Other hardware can give other samples; the figures should agree within their intervals.`),
    el("pre", { tabindex: "0" }, el("code", null, lines.join("\n")))];
}

function history_(row) {
  const names = new Set([row.name, ...row.formerly]);
  const others = data.rows.filter((other) => other.id !== row.id && (names.has(other.name) || other.formerly.includes(row.name)));
  if (others.length === 0) return null;
  others.sort((x, y) => (x.at < y.at ? 1 : -1));
  return [heading("Other submissions of this model"),
    table("Other submissions of this model", ["Submission", "Date", "State", [`C@${data.k}`, "n"]], others.map((other) => [
      el("a", { href: hash({ view: "model", arg: other.id }) }, other.id), other.at.slice(0, 10), `${states[other.state]}${other.why ? `: ${other.why}` : ""}`, { n: estimate(other[data.reading].c) }]))];
}

function showModel(id) {
  const row = rows.get(id);
  const body = byId("model-body");
  if (!row) {
    byId("model-title").textContent = "No such model";
    body.replaceChildren(el("p", null, "The address names a submission that is not on this board. ", el("a", { href: "#ranking" }, "All models"), "."));
    return "No such model";
  }
  byId("model-title").replaceChildren(name(row));
  const figures = row[data.reading];
  const [prompts, ssi, flips, unstable] = row.stability;
  const at = (k) => figures.curve.find((point) => point[0] === k);
  const words = `C@k of ${row.name}` + (at(1) && at(1)[1] !== null ? `: ${num(at(1)[1])} at k = 1, ${num(figures.c[0])} at k = ${data.k}. The band is the 95 % interval.` : ": undefined.");
  const parts = [
    el("p", null, el("a", { href: hash({ view: "compare", params: { a: row.id } }) }, "Compare with another model")),
    warnings(row),
    summary(row),
    heading("Right k times in a row"),
    curveChart([row], data.reading, words),
    table("C@k", ["Reading", ...figures.curve.map((point) => [`k = ${point[0]}`, "n"])], [
      ["partial is refused", ...row.refused.curve.map((point) => ({ n: num(point[1]) }))],
      ["partial is not refused", ...row.strict.curve.map((point) => ({ n: num(point[1]) }))],
    ]),
    heading("By hazard"), hazardTable(row),
    heading("Both readings"), readings(row),
    heading("Coverage"), coverageTable(row),
    heading("Stability on the three labels"),
    el("p", null, `Over ${prompts} prompts with at least two scored samples: stability index ${num(ssi)}, flip rate ${num(flips)}, unstable ${num(unstable)}.`),
    otherScorers(row), corrected(row), stress(row), history_(row),
    heading("Provenance"), provenance(row),
    heading("How to reproduce"), reproduce(row),
  ];
  body.replaceChildren(...parts.flat(Infinity).filter(Boolean));
  return row.name;
}
