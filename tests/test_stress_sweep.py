"""The whole stress test on a model with a refusal built by hand, and on organisms."""

import json
import re
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
import torch

from demur.benchmark.errors import DemurError
from demur.benchmark.stress import sweep
from demur.benchmark.stress.answers import MAX_NEW_TOKENS, Ending
from demur.benchmark.stress.cells import Cell, read_cells
from demur.benchmark.stress.engine import Engine
from demur.benchmark.stress.families import tiny_model
from demur.benchmark.stress.figures import Draws
from demur.benchmark.stress.interventions import Edit
from demur.benchmark.stress.memory import estimate, require_memory
from demur.benchmark.stress.page import page_html, write_page
from demur.benchmark.stress.pairs import public_pairs, read_pairs
from demur.benchmark.stress.prepare import prepare
from demur.benchmark.stress.rows import Openers, log_odds
from demur.benchmark.stress.search import _Search
from demur.benchmark.stress.settings import Settings, parse_experts, settings
from demur.benchmark.stress.subject import Subject, TextPair
from demur.benchmark.stress.sweep import plan_of, stress
from demur.benchmark.stress.systems import candidates
from demur.tests.planted_refusal import EXPERT, LAYER, Judge, model, pairs, subject, tokenizer

PLACE = f"layer={LAYER} module={LAYER} expert={EXPERT}"
PLAN = Settings(
    budget="test", candidates=6, rounds=(3,), doses=(0.5, 1.0), validation_pairs=6, final_pairs=2, test_pairs=8,
    new_tokens=3,
)  # fmt: skip


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stress")
    seen = []
    return stress(subject(), PLAN, folder, progress=lambda what, share: seen.append((what, share))), folder, seen


def test_the_planted_expert_is_found(measured):
    result, _, _ = measured
    assert result["unsteered"]["refusal_rate"] == 1.0
    assert result["unsteered"]["over_refusal_rate"] == 0.0
    single = result["systems"]["S4"]
    assert single["published"], single["reason"]
    assert all(PLACE in choice["candidate"] for choice in single["chosen"])
    assert result["experts"]["largest"]["place"] == PLACE
    assert result["experts"]["concentration"]["value"] > 0.8
    assert result["single_expert_share"]["value"] >= 0.9


def test_controls_do_nothing_and_are_searched_alike(measured):
    result, _, _ = measured
    controls = result["systems"]["S4"]["controls"]
    assert controls["real"]["answered"]["value"] == 1.0
    assert controls["random_direction"]["answered"]["value"] <= 0.1
    # Its experts write along one direction each: without that, nothing is left of a shuffle.
    assert "shuffled_labels" not in controls


def test_the_direction_lies_in_the_routed_experts(measured):
    result, _, _ = measured
    shares = result["systems"]["S5"]["figures"]["log_odds"]["shares"]
    assert shares["routed"]["value"] > 0.9
    assert sum(share["value"] for share in shares.values()) == pytest.approx(1.0)


def test_directions_against_general_instructions_are_reported_beside(tmp_path):
    plan = replace(PLAN, systems=("S1",))
    general = tuple(f"plain{n} good{n}" for n in range(8))
    controls = stress(subject(general=general), plan, tmp_path)["systems"]["S1"]["controls"]
    assert controls["general_instructions"]["answered"]["value"] >= 0.5
    assert controls["shuffled_labels"]["seeds"] == PLAN.shuffles
    with pytest.raises(DemurError, match="at least two are needed"):
        subject(general=("plain1",))


def test_a_search_scores_nothing_twice(monkeypatch):
    with Engine(subject().model) as engine:
        prepared = prepare(subject(), engine, PLAN)
        found = candidates("S1", "real", 0, prepared, engine.parts)[:3]
        asked = []
        score = engine.score

        def counted(*given, **more):
            scores = score(*given, **more)
            asked.append(scores.passes[1])
            return scores

        monkeypatch.setattr(engine, "score", counted)
        run, again = (_Search(engine, prepared, ("S1", "real", 0)) for _ in range(2))
        some = run.scores(found, (0.5, 1.0), [0, 7])
        more = run.scores(found, (1.0, 0.25, 0.5), [0, 1, 7])
        assert asked == [3 * 2 * 2, 3 * (3 * 3 - 2 * 2)]
        once = again.scores(found, (1.0, 0.25, 0.5), [0, 1, 7])
        for part in range(2):
            assert torch.equal(some[part], more[part][:, [2, 0]][:, :, [0, 2]])
            assert torch.allclose(more[part], once[part], atol=1e-5)
            assert not more[part].isnan().any()


def test_progress_rises_to_one(measured):
    shares = [share for _, share in measured[2]]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_nothing_but_labels_and_figures_is_on_disk(measured):
    """No text of a prompt or answer, no tensor: names, numbers and judgements only."""
    _, folder, _ = measured
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".json", ".jsonl", ".parquet"}
    words = re.compile(rb"bad\d|good\d|plain\d|Sure|<assistant>")
    for path in files:
        assert not words.search(path.read_bytes()), path
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            assert not words.search(json.dumps(table.to_pylist()).encode())
            assert {str(kind) for kind in table.schema.types} <= {"string", "int64", "double"}
    assert {cell.judgement for cell in read_cells(folder / "cells.parquet")} <= {
        "", "refused", "partial", "complied", "unscored",
    }  # fmt: skip


def test_no_way_to_export_a_steered_model():
    import demur.benchmark.stress as room

    source = "".join(path.read_text() for path in __import__("pathlib").Path(room.__file__).parent.glob("*.py"))
    assert not re.search(r"save_pretrained|torch\.save|safetensors|np\.save|pickle|push_to_hub", source)


def test_a_killed_test_goes_on_and_ends_the_same(tmp_path, monkeypatch):
    plan = replace(PLAN, systems=("S4",))
    folder = tmp_path / "whole"
    whole = stress(subject(), plan, folder)
    tmp_path = tmp_path / "killed"
    done = 0

    def kill(*args, **more):
        nonlocal done
        done += 1
        if done == 3:
            raise KeyboardInterrupt
        return measure(*args, **more)

    measure = sweep.measure
    monkeypatch.setattr(sweep, "measure", kill)
    with pytest.raises(KeyboardInterrupt):
        stress(subject(), plan, tmp_path)
    monkeypatch.setattr(sweep, "measure", measure)
    again = stress(subject(), plan, tmp_path)
    assert {**again, "seconds": 0} == {**whole, "seconds": 0}
    assert (tmp_path / "cells.parquet").read_bytes() == (folder / "cells.parquet").read_bytes()
    events = [json.loads(line)["event"] for line in (tmp_path / "journal.jsonl").read_text().splitlines()]
    assert events.count("resumed") == 1
    assert "interrupted" in events


def test_another_plan_in_the_same_folder_is_refused(measured):
    _, folder, _ = measured
    with pytest.raises(DemurError, match="another model, pairs, plan or version"):
        stress(subject(), replace(PLAN, candidates=9), folder)


def test_the_page_stands_alone(measured, tmp_path):
    result, _, _ = measured
    page = write_page(tmp_path, result)
    text = page.read_text()
    assert "<svg" in text
    assert f"reached by {result['systems']['S4']['chosen'][0]['candidate'].split()[0]}" in text
    assert "http" not in re.sub(r"http://www\.w3\.org/\S+", "", text)
    assert (tmp_path / "stress.svg").read_text().startswith("<svg")
    hostile = {**result, "model": {**result["model"], "name": "<script>alert(1)</script>"}}
    assert "<script>" not in page_html(hostile, "")


def test_nothing_to_measure(tmp_path):
    with pytest.raises(DemurError, match=r"nothing to measure: it refuses 0 of 1\d scored harmful prompts \(0%\)"):
        stress(subject(refuses=False), PLAN, tmp_path)
    assert not (tmp_path / "stress.json").exists()


def test_a_model_that_fails_its_self_test_is_not_measured(tmp_path, monkeypatch):
    from demur.benchmark.stress import interventions

    monkeypatch.setattr(interventions._Affine, "rows", lambda _self, x, _owner: x)
    with pytest.raises(DemurError, match="self-test failed: hook_changes"):
        stress(subject(), PLAN, tmp_path)


def test_a_failed_control_holds_the_figures_back(measured):
    from demur.benchmark.stress.controls import verdict

    def effect(value):
        return {"answered": {"value": value, "low": value, "high": value}}

    assert "control failed: random direction" in verdict({"real": effect(0.5), "random_direction": effect(0.4)})
    assert verdict({"real": effect(0.5), "random_direction": effect(0.05)}) == ""
    assert verdict({"real": effect(0.0), "random_direction": effect(0.0)}) == ""


def test_nineteen_shuffles_are_a_permutation_test():
    from demur.benchmark.stress.controls import control_figures, verdict

    own = [Cell("own", side="harmful", pair_id=f"p{n}", judgement="refused") for n in range(8)]

    def arm(name, seed, answered):
        labels = ["complied"] * answered + ["refused"] * (8 - answered)
        return [
            Cell("test", "S1", name, seed, "c", "suppress", 1.0, "harmful", f"p{n}", judgement=label)
            for n, label in enumerate(labels)
        ]

    def figures(shuffled):
        cells = [cell for seed in range(3) for cell in arm("real", seed, 6)]
        cells += [cell for seed, answered in enumerate(shuffled) for cell in arm("shuffled_labels", seed, answered)]
        doses = {"real": dict.fromkeys(range(3), 1.0), "shuffled_labels": dict.fromkeys(range(len(shuffled)), 1.0)}
        return control_figures(cells, own, list(doses), doses, Draws.make(8, 3))

    assert figures([5] * 19)["shuffled_labels"]["p_value"] == pytest.approx(0.05)
    assert verdict(figures([5] * 19)) == ""
    assert "p is 0.10" in verdict(figures([5] * 18 + [6]))
    assert "shuffled labels with the same search budget answers 62%" in verdict(figures([5] * 3))


def test_at_most_64_new_tokens():
    with pytest.raises(DemurError, match="1 to 64"):
        Settings(new_tokens=65)
    with pytest.raises(DemurError, match="1 to 64"):
        Ending(MAX_NEW_TOKENS + 1)


def test_three_seeds_at_least():
    with pytest.raises(DemurError, match="at least 3"):
        Settings(seeds=2)


def test_dense_model_gets_the_dense_systems_or_a_refusal():
    dense = tiny_model("llama")
    assert plan_of(dense, settings("quick"), asked=False).systems == ("S1", "S5")
    with pytest.raises(DemurError, match="dense model"):
        plan_of(dense, settings("quick", ["S4"]), asked=True)
    with pytest.raises(DemurError, match="dense model"):
        plan_of(dense, settings("quick", named=[(0, 1)]), asked=False)


def test_unknown_system_and_budget():
    with pytest.raises(DemurError, match="unknown system S9"):
        settings("quick", ["S9"])
    with pytest.raises(DemurError, match="unknown budget"):
        settings("huge")
    with pytest.raises(DemurError, match="not LAYER:EXPERT"):
        parse_experts(["x"])
    assert parse_experts(["2:5"]) == [(2, 5)]


def test_no_chat_template():
    plain = tokenizer()
    plain.chat_template = None
    with pytest.raises(DemurError, match="no chat template"):
        subject(tokenizer=plain)


def test_pairs_are_checked_all_at_once():
    wrong = (TextPair("a", "x", "y", "train"), TextPair("a", " ", "y", "train"))
    with pytest.raises(DemurError) as fault:
        Subject("m", model(), tokenizer(), wrong, Judge())
    for part in ("stands twice", "empty side", "0 pairs of part validation", "0 pairs of part test"):
        assert part in str(fault.value)


def test_pairs_of_a_file(tmp_path):
    good = tmp_path / "good.jsonl"
    good.write_text(
        "".join(json.dumps({"id": p.id, "harmful": p.harmful, "benign": p.benign}) + "\n" for p in pairs(8))
    )
    assert [pair.part for pair in read_pairs(good)] == ["train", "validation", "train", "test"] * 2
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"id": "a"}\nnot json\n{"id": "b", "harmful": "x", "benign": "y", "part": "tset"}\n')
    with pytest.raises(DemurError) as fault:
        read_pairs(bad)
    assert all(f"line {number}" in str(fault.value) for number in (1, 2, 3))


def test_public_pairs_have_every_hazard_in_every_part():
    found = public_pairs()
    hazards = {part: {pair.id.rsplit("-", 1)[0] for pair in found if pair.part == part} for part in ("train", "test")}
    assert len(hazards["train"]) >= 10
    assert {pair.part for pair in found} == {"train", "validation", "test"}


def test_what_cannot_fit_is_not_begun(monkeypatch):
    from demur.benchmark.stress import memory

    given = subject()
    small = estimate(given.model, PLAN, 10)
    assert estimate(given.model, replace(PLAN, positions=4), 10)["means"] > small["means"]
    assert estimate(given.model, PLAN, 10_000)["means"] == small["means"]
    monkeypatch.setattr(memory, "available", lambda _device: 1000)
    with pytest.raises(DemurError, match="needs about"):
        require_memory(given, PLAN)


def test_named_experts(tmp_path):
    named = replace(PLAN, systems=("S3",), named=((LAYER, EXPERT),))
    chosen = stress(subject(), named, tmp_path)["systems"]["S3"]["chosen"]
    assert all(choice["candidate"].startswith("named ") for choice in chosen)
    with pytest.raises(DemurError, match="no expert 99 in layer 1"):
        stress(subject(), replace(named, named=((1, 99),)), tmp_path / "other")


@pytest.mark.parametrize(("family", "openers"), [
    ("olmoe", Openers((3, 4))), ("olmoe", Openers((3,), 7, (4, 8))), ("gpt2", Openers((), 7, (4,))),
    ("gpt_oss", Openers((3, 4))), ("granitemoe", Openers((3, 4))),
])  # fmt: skip
def test_scores_equal_the_straightforward_way(family, openers):
    """Batched candidates with layers, openings and rows left out against one hooked forward per candidate and dose."""
    from demur.benchmark.stress.interventions import Change, Site, Steering, expert_site

    made = tiny_model(family)
    source = torch.Generator().manual_seed(0)
    opening = torch.randint(2, 90, (6,), generator=source).tolist()
    prompts = [(*opening, *torch.randint(2, 90, (3 + n % 4,), generator=source).tolist()) for n in range(6)]
    prompts = openers.asked(prompts)
    vector = torch.randn(32, generator=source)
    edits = [Edit({Site("input", n): Change(add=vector * dose)}) for n in range(4) for dose in (0.1, 0.4)]
    with Engine(made) as engine:
        edits += [
            Edit({expert_site(m, e): Change(keep=1 - dose)})
            for m, (_, _, count) in enumerate(engine.parts.experts) for e in range(count) for dose in (0.5, 1.0)
        ]  # fmt: skip
        assert engine.reuses_layers
        assert engine.shares_opening
        selected = engine.selected(prompts)
        fast = engine.score(edits, prompts, openers, selected=selected or None)
        assert fast.passes[0] < fast.passes[1] or not selected
        assert len(set(map(tuple, fast.log_odds.tolist()))) > len(edits) // 2
        for number, edit in enumerate(edits):
            with Steering(engine.parts, engine.hooks, [edit], torch.zeros(len(prompts)).long()):
                slow = log_odds(engine.last_logits(prompts, depth=openers.depth), openers)
            assert torch.allclose(fast.log_odds[number], slow, atol=1e-5)
        plain = [openers.plain(tokens) for tokens in prompts]
        ending = Ending(5)
        answered = torch.arange(len(prompts)) % 2 == 0
        both = engine.score(
            edits[:8], prompts, openers, selected=selected or None, ending=ending, answered=answered.expand(8, -1)
        )
        assert torch.allclose(both.log_odds, fast.log_odds[:8], atol=1e-5)
        shared = engine.generate(edits[:8], plain, ending)
        engine.shares_opening = False
        assert shared == engine.generate(edits[:8], plain, ending)
        assert both.answers == {row: tokens for row, tokens in shared.items() if answered[row[1]]}
        assert (
            both.answers
            == engine.score(edits[:8], prompts, openers, ending=ending, answered=answered.expand(8, -1)).answers
        )


def test_answers_of_a_model_with_a_window_are_those_of_each_prompt_alone():
    """Padding between a prompt and its answer would push the prompt out of the window."""
    made = tiny_model("gpt_oss")
    made.config.sliding_window = 8
    source = torch.Generator().manual_seed(0)
    prompts = [(5, 6, 7, 8, *torch.randint(2, 90, (2 + 3 * n,), generator=source).tolist()) for n in range(4)]
    with Engine(made) as engine:
        assert engine.shares_opening
        found = engine.generate([Edit()], prompts, Ending(6))
        alone = [engine.generate([Edit()], [prompt], Ending(6))[0, 0] for prompt in prompts]
        assert [found[0, n] for n in range(4)] == alone
        made.config.sliding_window = 64
        wide = engine.generate([Edit()], prompts, Ending(6))
        assert [wide[0, n] for n in range(4)] != alone


def test_a_result_as_written_may_be_attached_to_a_submission_of_its_model_alone(measured):
    from demur.leaderboard.stress import stress_report
    from demur.leaderboard.submissions.stress import read_stress
    from demur.tests.boards import model as identity

    result, folder, _ = measured
    who = identity(result["model"]["name"], architecture="moe", experts=result["model"]["experts"])
    assert read_stress(folder / "stress.json", who) == (result, [])
    report = stress_report(result)
    assert [one.system for one in report.systems] == ["S1", "S2", "S3", "S4", "S5"]
    assert all(one.figures or one.reason for one in report.systems)
    assert read_stress(folder / "stress.json", replace(who, id="another"))[0] is None
