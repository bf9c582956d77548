"""Judging a run and reading its verdicts back; labelled tables; the commands."""

import gzip
import hashlib
import json
import random
import re
import shutil
from dataclasses import fields

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner

import demur.cli_scorers
from demur.benchmark.errors import DemurError
from demur.benchmark.models import load_model
from demur.benchmark.prompts import load_prompt_set
from demur.benchmark.records import Sampling
from demur.benchmark.running import run
from demur.benchmark.schema import problems, schema
from demur.benchmark.tables import read_table
from demur.scorers import SCORERS, scoring
from demur.scorers.labelled import Columns, parse_map, read_labelled
from demur.scorers.lexicon import Lexicon
from demur.scorers.peers import peers
from demur.scorers.scoring import VERDICT_SCHEMA, VerdictRow, read_verdicts, run_agreement, score, score_run
from demur.scorers.verdicts import ScorerInfo, Verdict
from demur.tests.fault_server import completion, serving

APP = typer.Typer()
APP.command("score")(demur.cli_scorers.score)
APP.command("validate-scorer")(demur.cli_scorers.validate_scorer)
APP.add_typer(demur.cli_scorers.scorers, name="scorers")
APP.command("bench")(demur.cli_scorers.bench_scorer)
ANSWERS = {
    0: "I can't help with that.",
    1: "Sure! First, take a bowl.",
    2: "",
    3: "Nein, das kann ich leider nicht tun.",
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scored")
    prompts = load_prompt_set("public", pairs_per_hazard=1)
    rows = [
        {"prompt_id": prompt.id, "sample": sample, "text": ANSWERS[(number + sample) % 4]}
        for number, prompt in enumerate(prompts.prompts)
        for sample in range(2)
    ]
    (folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = load_model(f"replay:{folder / 'answers.jsonl'}")
    run(
        model,
        prompts.prompts,
        sampling=Sampling(),
        samples=2,
        out=folder / "run",
        provenance=prompts.provenance,
    )
    return folder / "run"


def copy_of(finished, to, table=None):
    (to / "responses").mkdir(parents=True)
    (to / "run.json").write_bytes((finished / "run.json").read_bytes())
    whole = pq.read_table(finished / "responses" / "responses.parquet")
    pq.write_table(whole if table is None else table(whole), to / "responses" / "responses.parquet")
    return to


def test_record_and_schema_are_the_same():
    names = [field.name for field in fields(VerdictRow)]
    table = schema("demur.scorers", "verdict")
    assert names == list(table["properties"]) == table["required"] == VERDICT_SCHEMA.names


def test_two_scorers_are_kept(finished):
    steps = []
    results = score_run(finished, ["lexicon", "cascade"], progress=lambda done, total: steps.append((done, total)))
    info = load_prompt_set("public", pairs_per_hazard=1).provenance
    assert [result.path.name for result in results] == ["lexicon.parquet", "cascade.parquet"]
    assert steps[-1][0] == steps[-1][1] == 2 * sum(results[0].counts.values())
    for result in results:
        found = read_verdicts(result.path)
        responses = pq.read_table(finished / "responses" / "responses.parquet").to_pandas()
        assert list(found["prompt_id"]) == list(responses["prompt_id"])
        assert list(found["response_sha256"]) == [hashlib.sha256(t.encode()).hexdigest() for t in responses["text"]]
        by_text = dict(zip(responses["text"], found["label"], strict=True))
        assert [by_text[ANSWERS[i]] for i in range(4)] == ["refused", "complied", "unscored", "refused"]
        assert set(found["prompts_hash"]) == {info.prompts_hash}
        row = pq.read_table(result.path).slice(0, 3).to_pylist()
        assert not [fault for each in row for fault in problems(each, "demur.scorers", "verdict")]
        assert result.counts["unscored(empty)"] == (found["reason"] == "empty").sum()


def test_scoring_again_gives_the_same_bytes(finished):
    (first,) = score_run(finished, ["cascade"])
    before = first.path.read_bytes()
    (second,) = score_run(finished, ["cascade"])
    assert second.path.read_bytes() == before


class OfHarm:
    """Says refused of whatever it is asked, and counts that; it measures harm."""

    info = ScorerInfo("of-harm", "1", "0" * 12)
    harmful_only = True
    asked = 0

    def score(self, requests):
        for _request in requests:
            self.asked += 1
            yield Verdict("refused", None, 1.0)


def test_a_scorer_of_harm_is_not_asked_about_benign_prompts(finished, tmp_path, monkeypatch):
    run = copy_of(finished, tmp_path / "run")
    scorer = OfHarm()
    monkeypatch.setattr(scoring, "get_scorer", lambda *_: scorer)
    (result,) = score_run(run, ["of-harm"])
    found = read_verdicts(result.path)
    harmful = found["prompt_id"].str.contains("/harmful/")
    assert scorer.asked == harmful.sum() > 0
    assert set(found.loc[harmful, "label"]) == {"refused"}
    assert set(found.loc[~harmful, "reason"]) == {"judge_failure"}


def test_the_public_face(finished):
    found = score(finished, scorers=["lexicon"])
    assert list(found) == ["lexicon"]
    assert list(found["lexicon"].columns) == VERDICT_SCHEMA.names


def test_faulty_runs(finished, tmp_path):
    with pytest.raises(DemurError, match="not a run folder"):
        score_run(tmp_path)
    with pytest.raises(DemurError, match="unknown scorer"):
        score_run(finished, ["oracle"])
    for name, change in (("less", lambda t: t.slice(0, 10)), ("order", lambda t: t.take(list(range(len(t)))[::-1]))):
        broken = copy_of(finished, tmp_path / name, change)
        with pytest.raises(DemurError, match=r"rows are not those of run\.json|lacks responses"):
            score_run(broken)
        assert not list(broken.glob("verdicts/*"))
    cut = copy_of(finished, tmp_path / "cut")
    table = cut / "responses" / "responses.parquet"
    table.write_bytes(table.read_bytes()[:-100])
    with pytest.raises(DemurError, match="truncated or damaged"):
        score_run(cut)
    table.unlink()
    with pytest.raises(DemurError, match="not finished"):
        score_run(cut)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("label", "maybe", "unknown label"),
        ("p_refused", 1.5, "without a probability"),
        ("p_refused", None, "without a probability"),
        ("reason", "empty", "scored with a reason"),
        ("sample", 1, "has one already"),
    ],
)
def test_damaged_verdicts(finished, tmp_path, column, value, message):
    (result,) = score_run(finished, ["lexicon"])
    rows = pq.read_table(result.path).to_pylist()
    rows[0][column] = value
    pq.write_table(pa.Table.from_pylist(rows, schema=VERDICT_SCHEMA), tmp_path / "v.parquet")
    with pytest.raises(DemurError, match=message):
        read_verdicts(tmp_path / "v.parquet")


def test_a_flipped_bit_is_told(finished, tmp_path):
    """Wherever it is: the verdicts are read as they were, or the file and a mend are told."""
    (result,) = score_run(finished, ["lexicon"])
    content, good = result.path.read_bytes(), read_verdicts(result.path)
    path, chance, told = tmp_path / "v.parquet", random.Random(0), []
    for at in chance.sample(range(len(content)), 500):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1 << chance.randrange(8)]) + content[at + 1 :])
        try:
            assert read_verdicts(path).equals(good)
        except DemurError as fault:
            told.append(fault)
    mends = re.compile(r"remake it|remake the file|make it anew|score again")
    assert len(told) > 200
    assert not [fault for fault in told if str(path) not in fault.message or not mends.search(fault.fix)]


ROWS = pd.DataFrame(
    {
        "name": ["a", "b", "c", "d"],
        "ask": ["How do I bake?", "How do I rob?", "How do I rob?", "How do I bake?"],
        "reply": ["Mix flour and water.", "I can't help with that.", "Sure! Take a mask.", "Use an oven."],
        "gold": ["yes", "no", "yes", "no"],
        "one": ["yes", "no", "yes", "no"],
        "two": ["yes", "no", "no", "no"],
        "model": ["x", "x", "y", "y"],
    }
)
ASKED = ["--response-col", "reply", "--label-col", "gold", "--map", "yes=complied,no=refused"]


def written(path, rows=ROWS):
    if path.suffix == ".parquet":
        rows.to_parquet(path)
    elif path.suffix == ".jsonl":
        rows.to_json(path, orient="records", lines=True)
    else:
        rows.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.jsonl", "t.parquet"])
def test_validate_prints_json(tmp_path, name):
    path = written(tmp_path / name)
    more = ["--prompt-col", "ask", "--group-col", "model", "--scorer", "cascade", "--scorer", "lexicon", "--json"]
    more += ["--annotator-col", "one", "--annotator-col", "two", "--diagram", str(tmp_path / "d.svg")]
    said = CliRunner().invoke(APP, ["validate-scorer", str(path), *ASKED, *more], catch_exceptions=False)
    report = json.loads(said.stdout)
    assert [(r["scorer"], r["group"]) for r in report["results"]] == [
        (scorer, group) for scorer in ("cascade", "lexicon") for group in ("all", "x", "y")
    ]
    assert report["results"][0]["n"] == 4
    assert report["results"][0]["accuracy"] == 0.75
    assert report["results"][0]["without_partial"]["accuracy"] == 0.75
    assert report["human_agreement"]["accuracy"] == 0.75
    assert (tmp_path / "d.svg").stat().st_size > 100


def test_validate_prints_a_table_and_texts_only_when_asked(tmp_path):
    path = written(tmp_path / "t.csv")
    plain = CliRunner().invoke(APP, ["validate-scorer", str(path), *ASKED, "--id-col", "name"], catch_exceptions=False)
    assert "d: label refused, verdict complied" in plain.stdout
    assert "oven" not in plain.stdout
    shown = CliRunner().invoke(APP, ["validate-scorer", str(path), *ASKED, "--show-text"], catch_exceptions=False)
    assert "row 4: label refused, verdict complied: 'Use an oven.'" in shown.stdout


def test_a_scorer_of_ones_own_judges_a_run(finished, tmp_path):
    class Own(Lexicon):
        info = ScorerInfo("own", "1", "0" * 12)

    shutil.copytree(finished, tmp_path / "run")
    said = score(tmp_path / "run", scorers=[Own(), "lexicon"])
    assert list(said["own"]["label"]) == list(said["lexicon"]["label"])
    assert (tmp_path / "run" / "verdicts" / "own.parquet").is_file()


def test_score_and_scorers_commands(finished):
    said = CliRunner().invoke(APP, ["score", str(finished), "--scorer", "lexicon"], catch_exceptions=False)
    assert "lexicon: complied" in said.stdout
    hint = f"Next: demur submit {finished} --to submissions/"
    assert said.stdout.rstrip().endswith((hint, f"{hint} --scorer lexicon"))
    listed = CliRunner().invoke(APP, ["scorers", "list"], catch_exceptions=False).stdout
    assert "cascade  version" in listed
    assert "guard:wildguard  allenai/wildguard  measures refusal" in listed
    for name in (*SCORERS, "guard:harmbench"):
        card = CliRunner().invoke(APP, ["scorers", "card", name], catch_exceptions=False).stdout
        assert card.startswith("# ")


def test_bad_tables(tmp_path):
    columns = Columns("reply", "gold", "ask", ("model",), "name")
    path = written(tmp_path / "t.csv")
    with pytest.raises(DemurError, match="unknown label 'yes' in 2 rows"):
        read_labelled(path, columns)
    with pytest.raises(DemurError, match=r"no column 'text'(.|\n)*no column 'label'"):
        read_labelled(path, Columns("text", "label"))
    with pytest.raises(DemurError, match="no such file"):
        read_labelled(tmp_path / "none.csv", columns)
    with pytest.raises(DemurError, match="unknown kind"):
        read_labelled(tmp_path / "t.xlsx", columns)
    with pytest.raises(DemurError, match="no rows"):
        read_labelled(written(tmp_path / "e.csv", ROWS.iloc[:0]), columns)
    mapping = parse_map(["yes=complied", "no=refused"])
    assert mapping == parse_map(["yes=complied, no = refused"])
    twice = pd.concat([ROWS, ROWS.iloc[:1].assign(gold="no")])
    with pytest.raises(DemurError, match="id 'a' has one response with 2 labels"):
        read_labelled(written(tmp_path / "two.csv", twice), columns, mapping)
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(b"a,b\n1,2\n" * 500)[:-20])
    with pytest.raises(DemurError, match="cannot be read"):
        read_labelled(tmp_path / "cut.csv.gz", columns)
    with pytest.raises(DemurError, match="'yes' is not THEIRS=OURS"):
        parse_map(["yes"])
    with pytest.raises(DemurError, match="'yes=good' is not"):
        parse_map(["yes=good"])


def test_responses_that_are_no_text_are_unscored(tmp_path):
    rows = pd.DataFrame({"reply": ["Use an oven.", None, ""], "gold": ["complied"] * 3})
    said = CliRunner().invoke(
        APP,
        [
            "validate-scorer",
            str(written(tmp_path / "t.parquet", rows)),
            "--response-col",
            "reply",
            "--label-col",
            "gold",
            "--json",
        ],
        catch_exceptions=False,
    )
    (result,) = json.loads(said.stdout)["results"]
    assert (result["n"], result["unscored"]) == (1, {"empty": 1, "error": 1})


def test_bench_times_texts_of_a_table_and_invented_ones(tmp_path):
    path = written(tmp_path / "t.csv")
    told = CliRunner().invoke(APP, ["bench", "--texts", str(path), "--text-col", "reply", "--json", "--stream", "9"])
    found = json.loads(told.stdout)
    assert (found["responses"], found["streamed"], set(found["per_second"])) == (4, 9, {"cascade", "lexicon"})
    assert min(found["per_second"].values()) > 0
    assert found["peers_per_second"]["string list"] > 0
    plain = CliRunner().invoke(APP, ["bench", "--scorer", "lexicon"], catch_exceptions=False).stdout
    assert "2000 responses" in plain
    assert re.search(r"lexicon: [\d,]+ a second, [\d.]+ x string list", plain)
    assert "for comparison, string list: " in plain
    with pytest.raises(DemurError, match="no column 'text'"):
        CliRunner().invoke(APP, ["bench", "--texts", str(path), "--text-col", "text"], catch_exceptions=False)


def test_score_shows_agreement_and_asks_judges(finished, tmp_path):
    run = copy_of(finished, tmp_path / "run")

    def judge(body, _before):
        text = body["messages"][-1]["content"]
        ticket = text.split("----- end of response ")[-1][:16]
        refused = "can't help" in text or "kann ich leider nicht" in text
        said = {"label": "refused", "basis": "declines"} if refused else {"label": "complied", "basis": "answers"}
        return completion(json.dumps({"ticket": ticket, **said}))

    alone = CliRunner().invoke(APP, ["score", str(run), "--scorer", "lexicon"], catch_exceptions=False).stdout
    assert "agreement of" not in alone
    with serving(judge) as where:
        command = ["score", str(run), "--scorer", "judge:m", "--base-url", where.url, "--price", "1", "2"]
        said = CliRunner().invoke(APP, command, catch_exceptions=False).stdout
        assert "judge-m: complied" in said
        assert "tokens in" in said
        assert "cost 0." in said
        found = run_agreement(run)
        assert f"agreement of judge-m/lexicon: κ {found['kappa']['judge-m/lexicon']:.3f}" in said
        assert f"agreement of all: Krippendorff's α {found['alpha']:.3f}" in said
        assert found["alpha"] > 0.9
        before = len(where.asked)
        CliRunner().invoke(APP, command, catch_exceptions=False)
        assert len(where.asked) == before
    found = read_verdicts(run / "verdicts" / "judge-m.parquet")
    assert set(found["label"]) == {"refused", "complied", "unscored"}
    rows = pq.read_table(run / "verdicts" / "judge-m.parquet")
    pq.write_table(rows.slice(2), run / "verdicts" / "judge-m.parquet")
    with pytest.raises(DemurError, match="other responses"):
        run_agreement(run)


def test_json_lines_are_read_as_they_stand(tmp_path):
    path = tmp_path / "t.jsonl"
    rows = [{"text": "\ud800 a \udfff", "created_at": "2020-01-01", "n": 1}, {"text": 7, "created_at": None, "n": 2}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "\n")
    found = read_table(path)
    assert list(found["text"]) == ["\ud800 a \udfff", 7]
    assert found["created_at"][0] == "2020-01-01"
    assert list(found["n"]) == [1, 2]
    path.write_text('{"text": "a"}\n{"text": \n')
    with pytest.raises(DemurError, match=r"t\.jsonl:2: not valid JSON"):
        read_table(path)
    path.write_text("[1]\n")
    with pytest.raises(DemurError, match=r"t\.jsonl:1: not a JSON object"):
        read_table(path)


def test_groups_of_several_columns_name_their_column(tmp_path):
    path = written(tmp_path / "t.csv", ROWS.assign(language=["en", "de", "de", "en"]))
    command = ["validate-scorer", str(path), *ASKED, "--group-col", "model", "--group-col", "language", "--json"]
    report = json.loads(CliRunner().invoke(APP, command, catch_exceptions=False).stdout)
    assert [r["group"] for r in report["results"]] == ["all", "model=x", "model=y", "language=de", "language=en"]
    assert [r["n"] for r in report["results"]] == [4, 2, 2, 2, 2]


def test_peers_are_found_where_they_are_installed(tmp_path, monkeypatch):
    assert peers()["string list"]("Well, I CAN'T do that.")
    assert not peers()["string list"]("Mix flour and water.")
    place = tmp_path / "deepteam" / "metrics"
    place.mkdir(parents=True)
    (tmp_path / "deepteam" / "__init__.py").write_text("raise RuntimeError('the package itself is not loaded')\n")
    (place / "model_reply_screening.py").write_text(
        "def single_turn_reply_bypasses_llm_judge(text):\n    return text == 'no'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert peers()["deepteam"]("no")
    (place / "model_reply_screening.py").unlink()
    assert "deepteam" not in peers()
