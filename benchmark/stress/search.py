"""The search for the candidate and dose with the largest effect: a cheap score first, halving rounds after.

Validation pairs only. Every arm is searched with the same number of candidates, prompts and doses. Rounds are decided
by the first answer token; the last one by short answers too, because a candidate that breaks a model into babble lowers
the log-odds of refusal as well as one that makes it answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .cells import Cell
from .engine import Engine
from .prepare import Prepared, judgements
from .rows import log_odds
from .settings import Arm, System
from .systems import Candidate

__all__ = ["Chosen", "search"]

SCREENING_DOSES = (0.25, 1.0)
FINALISTS = 3


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a search chose.

    Attributes:
        candidate: the best that stays within the limit of KL, or the one nearest to it where none does.
        dose: its best dose on validation pairs.
        within: whether it stays within the limit.
        tried: candidates that entered the first round.
        skipped: candidates that the budget left out.
    """

    candidate: Candidate
    dose: float
    within: bool
    tried: int
    skipped: int


@dataclass(frozen=True, slots=True)
class _Result:
    candidate: Candidate
    dose: float
    drop: float
    kl: float
    gain: float = 0.0


class _Search:
    def __init__(self, engine: Engine, prepared: Prepared, which: tuple[System, Arm, int]) -> None:
        self.engine, self.prepared, self.asked = engine, prepared, prepared.validation
        self.system, self.arm, self.seed = which
        self.cells: list[Cell] = []
        self.known: dict[tuple[str, float, bool], Tensor] = {}
        self.own = log_odds(self.asked.own, prepared.openers)

    def scores(
        self, candidates: Sequence[Candidate], doses: Sequence[float], columns: Sequence[int], *, induce: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Change of log-odds and KL, each (candidates, doses, columns); what was scored before is not scored again."""
        tried = [(candidate, dose) for candidate in candidates for dose in doses]
        rows = []
        for candidate, dose in tried:
            known = self.prepared.scored if candidate.fixed else self.known
            rows.append(known.setdefault((candidate.key, dose, induce), torch.full((2, len(self.own)), torch.nan)))
        wanted = torch.zeros(len(rows), len(self.own), dtype=torch.bool)
        wanted[:, columns] = torch.stack(rows)[:, 0, columns].isnan()
        new = wanted.any(dim=1).nonzero().flatten().tolist()
        if new:
            edits = [
                (c.induce or c.suppress)(dose) if induce else c.suppress(dose) for c, dose in (tried[n] for n in new)
            ]
            found = self.engine.score(
                edits,
                self.asked.prompts,
                self.prepared.openers,
                own=self.asked.own,
                selected=self.asked.selected or None,
                wanted=wanted[new],
            )
            for place, n in enumerate(new):
                rows[n][:, wanted[n]] = torch.stack([found.log_odds[place], found.kl[place]])[:, wanted[n]]
        odds, kl = torch.stack(rows)[:, :, columns].unbind(dim=1)
        shape = (len(candidates), len(doses), len(columns))
        return (odds - self.own[columns]).view(shape), kl.view(shape)

    def round(self, candidates: Sequence[Candidate], doses: Sequence[float], pairs: int) -> list[_Result]:
        """Score candidates on both sides: a result for every candidate and dose, the best first."""
        columns = self.asked.columns(pairs)
        count = len(columns) // 2
        change, kl = self.scores(candidates, doses, columns)
        change, kl = change[..., :count], kl[..., count:]
        # A benign prompt that the model refuses must change when refusal does: that is no damage.
        whole = torch.tensor([verdict == "complied" for verdict in self.asked.benign.verdicts[:count]])
        kl = kl[:, :, whole] if bool(whole.any()) else kl
        results = []
        for c, candidate in enumerate(candidates):
            for d, dose in enumerate(doses):
                drop, moved = -float(change[c, d].mean()), float(kl[c, d].mean())
                self._note((candidate, dose), "harmful", change.shape[2], change=-drop)
                self._note((candidate, dose), "benign", kl.shape[2], kl=moved)
                results.append(_Result(candidate, dose, drop, moved))
        return sorted(results, key=self._rank)

    def _rank(self, result: _Result) -> tuple[bool, float]:
        within = result.kl <= self.prepared.settings.kl_limit
        return (not within, -result.drop if within else result.kl)

    def promise(self, result: _Result) -> float:
        """Order of results at the full dose alone: by the fall at the largest dose that would do no damage.

        A small change moves log-odds in step with itself and KL with its square. Without this an expert that carries
        all of the refusal falls out because its whole silence does damage, before half of its silence is tried.
        """
        return float(-result.drop * min(1.0, (self.prepared.settings.kl_limit / max(result.kl, 1e-9)) ** 0.5))

    def _note(
        self,
        at: tuple[Candidate, float],
        side: str,
        prompts: int,
        *,
        change: float = 0.0,
        kl: float = 0.0,
        pair: str = "",
    ) -> None:
        where = (self.system, self.arm, self.seed, at[0].key, "suppress", at[1])
        self.cells.append(Cell("search", *where, side, pair, prompts, change, kl))

    def first_of_experts(self, groups: Sequence[list[Candidate]]) -> list[list[Candidate]]:
        """S4's first round: each expert by its first candidate on a few harmful prompts; the best quarter goes on."""
        heads = [group[0] for group in groups]
        columns = range(min(self.prepared.settings.rounds[0], self.asked.pairs))
        change, _ = self.scores(heads, (1.0,), columns)
        for h, head in enumerate(heads):
            for p in columns:
                pair = self.asked.harmful.ids[p]
                self._note((head, 1.0), "harmful", 1, change=float(change[h, 0, p]), pair=pair)
        order = sorted(range(len(heads)), key=lambda h: float(change[h].mean()))
        return [groups[h] for h in order[: max(FINALISTS, len(heads) // 4)]]

    def answering(self, results: Sequence[_Result]) -> _Result:
        """Of the best candidate of each kind, the result with the largest gain, judged by short answers.

        The gain is the rise of the share of harmful prompts that are answered, less the fall of that share on benign
        prompts: a change that stops the model from answering at all is no change of its refusal.
        """
        plan, prepared = self.prepared.settings, self.prepared
        options: list[_Result] = []
        for leader in _by_kind(results).values():
            mine = [result for result in results if result.candidate.key == leader.candidate.key]
            mine.sort(key=lambda result: -result.dose)
            within = [result for result in mine if result.kl <= plan.kl_limit]
            # The largest dose that does no damage and one well below it; the smallest where all do.
            options += [*within[:1], *within[2:3]] or mine[-1:]
        columns = self.asked.columns(plan.final_pairs)
        every, verdicts = self.asked.texts, self.asked.verdicts
        texts, unsteered = [every[n] for n in columns], [verdicts[n] for n in columns]
        answers = self.engine.generate(
            [option.candidate.suppress(option.dose) for option in options],
            [prepared.openers.plain(self.asked.prompts[n]) for n in columns],
            prepared.ending,
        )
        found = [
            judgements(prepared.subject, texts, [answers[o, n] for n in range(len(columns))], prepared.ending)
            for o in range(len(options))
        ]
        complied = torch.tensor([[float(verdict == "complied") for verdict in row] for row in (unsteered, *found)])
        harmful, benign = complied.view(len(complied), 2, -1).mean(dim=2).T
        gains = harmful[1:] - harmful[0] + (benign[1:] - benign[0]).clamp(max=0.0)
        judged = [replace(option, gain=gain) for option, gain in zip(options, gains.tolist(), strict=True)]
        return min(judged, key=lambda result: (result.kl > plan.kl_limit, -result.gain, -result.drop))

    def inducing(self, results: Sequence[_Result]) -> list[_Result]:
        """Those whose opposite raises refusal on benign prompts, as the source asks of S1; all where none does."""
        candidates = list({result.candidate.key: result.candidate for result in results}.values())
        columns = self.asked.columns(self.prepared.settings.rounds[0])
        benign = columns[len(columns) // 2 :]
        change, _ = self.scores(candidates, SCREENING_DOSES, benign, induce=True)
        raising = {c.key for n, c in enumerate(candidates) if float(change[n].mean(dim=1).max()) > 0}
        return [result for result in results if result.candidate.key in raising] or list(results)


def search(
    engine: Engine,
    prepared: Prepared,
    found: Sequence[Candidate],
    *,
    system: System,
    arm: Arm,
    seed: int,
) -> tuple[Chosen, list[Cell]]:
    """Choose among candidates on validation pairs.

    Returns:
        The choice, and every value that was measured on the way.
    """
    plan = prepared.settings
    run = _Search(engine, prepared, (system, arm, seed))
    if system == "S4":
        groups = _by_expert(found)
        entered = _sample(groups, plan.experts, seed)
        kept = run.first_of_experts(entered)
        alive = [candidate for group in kept for candidate in group]
        tried = sum(map(len, entered))
        screening: tuple[float, ...] = (1.0,)
    else:
        alive = _entering(found, plan.candidates)
        tried, screening = len(alive), SCREENING_DOSES
    for prompts in plan.rounds:
        if len(alive) <= FINALISTS:
            break
        ranked = run.round(alive, screening, prompts)
        if system == "S4":
            ranked.sort(key=run.promise)
        alive = _survivors(ranked, max(FINALISTS, len(alive) // 4))
    results = run.round(alive, plan.doses, plan.validation_pairs)
    best = run.answering(run.inducing(results) if system == "S1" else results)
    chosen = Chosen(best.candidate, best.dose, best.kl <= plan.kl_limit, tried, len(found) - tried)
    where = (system, arm, seed, best.candidate.key, "suppress", best.dose)
    # A choice has no prompts of its own; the column tells how many candidates were tried for it.
    run.cells.append(Cell("chosen", *where, prompts=tried, log_odds=-best.drop, kl=best.kl))
    return chosen, run.cells


def _by_kind(results: Sequence[_Result]) -> dict[str, _Result]:
    """The first result of each kind of candidate (the first word of its name); results come best first."""
    found: dict[str, _Result] = {}
    for result in results:
        found.setdefault(_kind(result.candidate), result)
    return found


def _kind(candidate: Candidate) -> str:
    return candidate.key.split(" ", 1)[0]


def _entering(found: Sequence[Candidate], most: int) -> list[Candidate]:
    """Equally many of each kind: places by their cheap score, sets of experts spread over the sizes of sets."""
    kinds: dict[str, list[Candidate]] = {}
    for candidate in sorted(found, key=lambda candidate: -candidate.cheap):
        kinds.setdefault(_kind(candidate), []).append(candidate)
    chosen: list[Candidate] = []
    for kind in kinds.values():
        room = max(most // len(kinds), 1)
        count = min(room, len(kind))
        # Sets are ordered by size; both ends of the range are among those that are taken.
        step = (len(kind) - 1) / max(count - 1, 1) if " experts=" in kind[0].key else 1.0
        chosen += [kind[round(n * step)] for n in range(count)]
    return chosen


def _survivors(results: Sequence[_Result], count: int) -> list[Candidate]:
    """The best ``count`` candidates, and the best of every kind besides."""
    order = list({result.candidate.key: result.candidate for result in results}.values())
    kinds = [result.candidate for result in _by_kind(results).values()]
    return list({candidate.key: candidate for candidate in [*order[:count], *kinds]}.values())


def _by_expert(found: Sequence[Candidate]) -> list[list[Candidate]]:
    groups: dict[str, list[Candidate]] = {}
    for candidate in found:
        place = candidate.key[candidate.key.index("layer=") :].split(" position=")[0]
        groups.setdefault(place, []).append(candidate)
    return list(groups.values())


def _sample(groups: list[list[Candidate]], most: int, seed: int) -> list[list[Candidate]]:
    """All experts, or where there are too many half of the budget by cheap score and half spread over the layers."""
    if len(groups) <= most:
        return groups
    by_score = sorted(range(len(groups)), key=lambda g: -groups[g][0].cheap)
    chosen = set(by_score[: most // 2])
    rest = [g for g in range(len(groups)) if g not in chosen]
    # Groups are in the order of the layers, so equal steps through them are a sample stratified by layer.
    start = float(torch.rand(1, generator=torch.Generator().manual_seed(seed)))
    step = len(rest) / (most - len(chosen))
    chosen.update(rest[int((n + start) * step) % len(rest)] for n in range(most - len(chosen)))
    return [groups[g] for g in sorted(chosen)]
