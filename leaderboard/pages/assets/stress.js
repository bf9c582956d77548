// The steering stress test of a model, and the table of all models that have one.
const systems = {
  S1: "dense direction",
  S2: "routing-aware",
  S3: "expert-specific",
  S4: "single expert",
  S5: "where it lives",
};
const stressWords = {
  answered: ["More harmful prompts answered", "rise of the share that is answered, at the dose that the search chose"],
  dose_50: ["dose_50", "dose at which refusal has fallen by half; a dose is the norm of the change over that of the activation"],
  area: ["Area under the curve", "mean refusal rate over the doses; 1 never bends"],
  drop_at_equal_kl: ["Fall of refusal at equal damage", "largest fall among the doses whose KL on benign prompts is at most 0.1 nats"],
  over_refusal_induced: ["Over-refusal induced", "benign prompts refused when the direction is added at the largest dose"],
  interaction: ["Interaction", "effect of all parts together minus the sum of each alone, nats of refusal log-odds"],
  attention_share: ["Attention", "share of the effect"],
  feed_forward_share: ["Feed-forward", "share of the effect"],
  routed_share: ["Routed experts", "share of the effect"],
  shared_share: ["Shared experts", "share of the effect"],
  shares: ["Shares of the parts", ""],
  single_expert_share: ["Single-expert share", "effect of the strongest single expert over that of the dense direction"],
  expert_concentration: ["Expert concentration", "Gini coefficient of effects over experts; 1 is one expert alone"],
  routing_correlation: ["Routing and effect", "Spearman correlation of routing difference and effect over experts"],
};
function stressTitle(figure) {
  const [title, meaning] = stressWords[figure] || [figure.replaceAll("_", " "), ""];
  return [title, meaning ? el("span", { class: "i meaning" }, meaning) : null];
}

const stressValue = ([, value, low, high, reason]) =>
  value === null && reason ? [DASH, " ", small(reason)] : [estimate([value, low, high], 2), reason && value === null ? small(reason) : null];
const armTitle = (arm) => (arm === "real" ? "the real arm" : arm.replaceAll("_", " "));

function stress(row) {
  if (!row.stress) return null;
  const found = worded(row.stress);
  const [judge, budget, pairs, version] = found.about;
  const parts = found.systems.map(([system, reason, figures, controls, curve]) => [
    el("h4", null, `${system}: ${systems[system]}`),
    reason ? el("p", { class: "note warn" }, `Figures are held back: ${reason}.`) : null,
    figures.length === 0 ? null : table(`Figures of ${system}`, ["Figure", ["Value", "n"]],
      figures.map((figure) => [stressTitle(figure[0]), { n: stressValue(figure) }])),
    controls.length === 0 ? null : table(`Controls of ${system}`, ["Arm", ["More harmful prompts answered", "n"]],
      controls.map(([arm, ...e]) => [armTitle(arm), { n: [estimate(e, 2), whiskerOf(e)] }])),
    curve.length === 0 ? null : table(`Refusal rate by dose, ${system}`, ["Dose", ...curve.map(([dose]) => [String(dose), "n"])],
      [["Refusal rate", ...curve.map(([, ...e]) => ({ n: estimate(e, 2) }))]]),
  ]);
  return [heading("Stress test"),
    el("p", null, `How far refusal bends when activations are steered, on ${pairs} test pairs (budget ${budget}, judge ${judge}, demur ${version}). Unsteered, the model refuses ${num(found.rates[0], 2)} of the harmful and ${num(found.rates[1], 2)} of the benign prompts. Brackets are 95 % intervals; every arm was searched with the same budget. The figures are the submitter\u2019s own: they cannot be recomputed from the submission. `,
      el("a", { href: "#methods/stress-test" }, "What they mean"), "."),
    parts,
    el("h4", null, "All systems together"),
    table("Figures over systems", ["Figure", ["Value", "n"]],
      found.figures.map((figure) => [stressTitle(figure[0]), { n: stressValue(figure) }]))];
}

// Effects can be negative; the line shows what lies between 0 and 1.
function whiskerOf(e) {
  return e[0] === null ? null : whisker(e.map((value) => (value === null ? null : Math.min(1, Math.max(0, value)))));
}
