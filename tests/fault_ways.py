"""The commands that faults are made under, what each needs, and how to tell that what it left is whole."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pyrage

from demur import cli
from demur.benchmark import access, maintain, manifest, prompts, sealed
from demur.benchmark.access import AccessDesk
from demur.benchmark.export import verify_export
from demur.benchmark.files import read_json, write_json
from demur.benchmark.ledger import read_ledger
from demur.benchmark.models import openai, replay, server
from demur.benchmark.organisms import making
from demur.benchmark.prompts import load_prompt_set
from demur.benchmark.recipients import Person
from demur.benchmark.runs import check_run
from demur.leaderboard.board import as_json
from demur.leaderboard.folder import read_board, read_folder
from demur.leaderboard.submissions.checking import check_submission
from demur.leaderboard.submissions.sealing import keep_sealed
from demur.scorers.label_screen import label_all
from demur.scorers.labelling import LabelFile, draw
from demur.scorers.scoring import read_verdicts
from demur.tests import planted_refusal
from demur.tests.boards import board
from demur.tests.stress_results import stress_result
from demur.tests.submissions import DENSE, scored_run

HOMES: list[Path] = []


@dataclass(frozen=True)
class Way:
    """A command in a folder that holds what it needs.

    Words in braces, as ``{SENT}``, stand for what ``names.json`` of the folder says.

    Attributes:
        whole: what is wrong with what the command left; '' for nothing.
        inputs: files that may be damaged; paths below the folder.
        before: what must still be as it was whatever happens.
        dear: it takes seconds; of the faults only some kills and the full disk are tried.
    """

    name: str
    run: Callable[[Path], None]
    whole: Callable[[Path], str]
    inputs: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    writes: bool = True
    dear: bool = False


def named(place: Path, text: str) -> str:
    """The text with the folder's names in it."""
    for name, value in read_json(place / "names.json").items():
        text = text.replace(f"{{{name}}}", value)
    return text.replace("{}", str(place))


def demur(*arguments: str) -> Callable[[Path], None]:
    """The command line in the folder."""

    def run(place: Path) -> None:
        _at(place)
        sys.argv = ["demur", *(named(place, each) for each in arguments)]
        cli.main()

    return run


def told(act: Callable[[Path], None]) -> Callable[[Path], None]:
    """Something that no command does without hands or the package's own folder, told of as a command is."""

    def run(place: Path) -> None:
        _at(place)
        cli.app = lambda: act(place)  # type: ignore[assignment]
        cli.main()

    return run


def _at(place: Path) -> None:
    os.chdir(place)
    os.environ["DEMUR_CACHE"] = str(place / "cache")
    server.BACKOFF_S = 0.001
    # Small batches: a kill shall find some answered and some not.
    replay.BATCH_RESPONSES = openai.BATCH_RESPONSES = 24


def _label(place: Path) -> None:
    items = draw(place / "run", 6, "lexicon", "anna")
    store = LabelFile(place / "run", "anna")
    store.check(items)
    label_all(items, store, lambda: "r", lambda _text: None)


def _rebuild(place: Path) -> None:
    maintain.rebuild_manifest(place / "newer", None, place / "prompts")


def _organism(place: Path) -> None:
    """As the command makes it, but after two steps of training, which teach nothing."""
    making._require_right = lambda _organism: None
    recipe = making.recipe_for
    making.recipe_for = lambda name: replace(recipe(name), steps=2)
    demur("organism", "make", "natural-dense")(place)


def desk_at(place: Path, name: str = "prompts") -> None:
    """Make the folder's prompt set the installed one, with its maintainer's key."""
    folder = place / name
    for module in (manifest, prompts, sealed):
        module.FOLDER = folder  # type: ignore[attr-defined]
    AccessDesk.__init__.__defaults__ = (folder,)
    manifest.manifest.cache_clear()
    os.environ["DEMUR_IDENTITY"] = str(place / "key")
    os.environ["DEMUR_PASSPHRASE_FILE"] = str(place / "passphrase")


def at_desk(*arguments: str, name: str = "prompts") -> Callable[[Path], None]:
    def run(place: Path) -> None:
        desk_at(place, name)
        demur(*arguments)(place)

    return run


def _desk_whole(place: Path) -> str:
    desk_at(place)
    desk = AccessDesk(place / "prompts")
    read_ledger(desk.ledger)
    manifest.read_manifest(place / "prompts")
    return "" if len(desk.open("gated")) > 0 else "the sealed split is empty"


def _opens(place: Path, path: Path, who: str) -> str:
    if not path.is_file():
        return f"no copy {path.name}"
    keys = [pyrage.x25519.Identity.from_str((place / who).read_text().splitlines()[1])]
    sealed.unpack(sealed.decrypt(path, keys), "copy")
    return _desk_whole(place)


def _revoked(place: Path) -> str:
    if AccessDesk(place / "prompts").recipients().named("second"):
        return "second is still listed"
    copies = list((place / "copies").glob("[!.]*"))
    return _opens(place, copies[0], "third") if len(copies) == 1 else f"{len(copies)} copies"


def _appointed(place: Path) -> str:
    desk_at(place, "bare")
    os.environ["DEMUR_IDENTITY"] = str(place / "bare" / "maintainer.identity.age")
    desk = AccessDesk(place / "bare")
    keys = [str(key.to_public()) for key in sealed.read_identity()]
    if [person.key for person in desk.recipients().maintainers] != keys:
        return "the maintainer is not the one of the identity"
    return "" if len(desk.watermark_key()) == 32 else "no key of the marks"


def _two_maintainers(place: Path) -> str:
    os.environ["DEMUR_IDENTITY"] = str(place / "third")
    keys = sealed.read_identity()
    for name in ("gated.age", "watermark.age"):
        sealed.decrypt(place / "prompts" / name, keys)
    return _desk_whole(place)


def _submitted(place: Path) -> str:
    folders = [path for path in (place / "sent").iterdir() if not path.name.startswith(".")]
    if not folders:
        return "no submission"
    bad = [fault for path in folders for fault in check_submission(path)]
    salts = {path.stem for path in (place / "run" / "salts").glob("*.txt")}
    return "; ".join(bad) or ("" if {path.name for path in folders} <= salts else "a submission without its salt")


def _sealed_too(place: Path) -> str:
    keys = [pyrage.x25519.Identity.from_str((place / "reader").read_text().splitlines()[1])]
    content = [path.read_bytes() for path in (place / "private").glob("[!.]*.age")]
    if not content:
        return "no sealed responses"
    for each in content:
        pyrage.decrypt(each, keys)
    return _submitted(place)


def _rescored(place: Path) -> str:
    found = read_folder(place / "given")
    if found.refused or set(found.tiers.values()) != {"rescored"}:
        return f"{found.refused} {found.tiers}"
    return ""


def _site(place: Path) -> str:
    read_board(place / "site" / "downloads" / "board.json")
    page = (place / "site" / "index.html").read_text(encoding="utf-8")
    return "" if page.rstrip().endswith("</html>") else "half a page"


def _same(name: str) -> Callable[[Path], str]:
    def whole(place: Path) -> str:
        calm = HOMES[0] / "calm" / name
        return "" if (place / name).read_bytes() == calm.read_bytes() else f"{name} is not that of a calm run"

    return whole


def _run_whole(name: str) -> Callable[[Path], str]:
    table = _same(f"{name}/responses/responses.parquet")
    return lambda place: "; ".join(check_run(place / name)) or table(place)


def _verdicts(name: str) -> Callable[[Path], str]:
    def whole(place: Path) -> str:
        read_verdicts(place / "run" / "verdicts" / f"{name}.parquet")
        return _same(f"run/verdicts/{name}.parquet")(place)

    return whole


def _ends(name: str, end: str) -> Callable[[Path], str]:
    return lambda place: "" if (place / name).read_text().rstrip().endswith(end) else f"{name} is cut off"


def _cards(place: Path) -> str:
    calm = HOMES[0] / "calm" / "cards"
    return "".join(_same(f"cards/{path.name}")(place) for path in calm.iterdir())


def _stressed(place: Path) -> str:
    calm, ours = (read_json(at / "stressed" / "stress.json") for at in (HOMES[0] / "calm", place))
    if calm["systems"] != ours["systems"]:
        return "other figures than those of a calm test"
    return _same("stressed/cells.parquet")(place) or _ends("stressed/index.html", "</html>")(place)


def _organism_whole(place: Path) -> str:
    made = [path for path in (place / "cache").iterdir() if not path.name.startswith(".")]
    lists = [sorted(path.name for path in folder.iterdir()) for folder in made]
    calm = next(path for path in (HOMES[0] / "calm" / "cache").iterdir() if not path.name.startswith("."))
    return "" if lists == [sorted(path.name for path in calm.iterdir())] else f"{lists} in the cache"


def _manifest_whole(place: Path) -> str:
    listed = manifest.read_manifest(place / "prompts")
    pairs = maintain.read_split(place / "prompts" / "public", "public")
    return "" if maintain.describe(listed, "public", pairs) == listed else "the manifest is not that of the files"


RUN = ("run/run.json", "run/journal.jsonl", "run/responses/responses.parquet")
LEXICON = "run/verdicts/lexicon.parquet"
GIVEN = ("given/{SENT}/submission.json", "given/{SENT}/verdicts.parquet")
ANSWERS = ("--samples", "1", "--limit-pairs", "1")
WAYS = (
    Way("run", demur("run", "replay:answers.jsonl", *ANSWERS, "--out", "new"), _run_whole("new"),
        ("answers.jsonl",), ("answers.jsonl",)),
    Way("run server", demur("run", "openai:m", "--base-url", "{URL}", "--temperature", "0", *ANSWERS, "--out", "asked"),
        _run_whole("asked")),
    Way("merge", demur("merge", "shard-1", "shard-2", "--out", "merged"), _run_whole("merged"),
        ("shard-1/responses/responses.parquet", "shard-2/run.json"), ("shard-1/responses/responses.parquet",)),
    Way("score", demur("score", "run"), _verdicts("cascade"), RUN, (*RUN, LEXICON)),
    Way("score judge", demur("score", "run", "--scorer", "judge:m", "--base-url", "{URL}", "--concurrency", "2"),
        _verdicts("judge-m"), (), RUN),
    Way("submit", demur("submit", "run", "--scorer", "lexicon", "--to", "sent"), _submitted,
        (*RUN, LEXICON), (*RUN, LEXICON)),
    Way("submit all", demur("submit", "run", "--scorer", "lexicon", "--to", "sent", "--stress", "stress.json",
                            "--with-responses", "private", "--recipient", "{READER}"), _sealed_too,
        ("stress.json",), (*RUN, "stress.json")),
    Way("check", demur("check", "run"), lambda _place: "", RUN, RUN, writes=False),
    Way("check submission", demur("check", "{}/given/{SENT}"), lambda _place: "", GIVEN, (), writes=False),
    Way("verify", at_desk("verify", "{}/given/{SENT}", "--responses", "sealed", "--scorer", "lexicon"), _rescored,
        ("sealed/{SENT}.age", "given/notices.json"), (*GIVEN, "sealed/{SENT}.age")),
    Way("leaderboard build", demur("leaderboard", "build", "given", "--out", "site"), _site,
        (*GIVEN, "given/notices.json")),
    Way("leaderboard export", demur("leaderboard", "export", "given", "--csv", "--out", "board.csv"),
        lambda place: "" if (place / "board.csv").read_text().count("\n") >= 2 else "half a table"),
    Way("leaderboard figure", demur("leaderboard", "figure", "board.json", "curves", "--out", "curves.svg"),
        _ends("curves.svg", "</svg>"), ("board.json",), ("board.json",)),
    Way("access keygen", demur("access", "keygen", "fresh"),
        lambda place: "" if "AGE-SECRET-KEY-" in (place / "fresh").read_text() else "half a key"),
    Way("access init", at_desk("access", "init", "--name", "First", name="bare"), _appointed),
    Way("access maintainer", at_desk("access", "maintainer", "--to", "{THIRD}", "--name", "Other"), _two_maintainers,
        ("prompts/gated.age", "prompts/recipients.json"), ("key",)),
    Way("access seal", at_desk("access", "seal", "--split", "gated", "--from", "{}/plain"), _desk_whole,
        ("plain/gated/cybercrime.yaml", "prompts/manifest.json", "prompts/recipients.json", "prompts/ledger.jsonl"),
        ("key", "plain/gated/cybercrime.yaml")),
    Way("access grant", at_desk("access", "grant", "--to", "{READER}", "--name", "reader", "--out", "copy.age",
                                "--conditions-accepted"), lambda place: _opens(place, place / "copy.age", "reader"),
        ("prompts/gated.age", "prompts/ledger.jsonl", "prompts/ledger.head.json", "prompts/watermark.age", "key"),
        ("key", "prompts/gated.age")),
    Way("access revoke", at_desk("access", "revoke", "--name", "second", "--out", "copies"), _revoked,
        ("prompts/gated.age", "prompts/ledger.jsonl", "prompts/recipients.json"), ("key",)),
    Way("access open", at_desk("access", "open", "--split", "gated"), lambda _place: "",
        ("prompts/gated.age", "prompts/manifest.json", "key"), ("prompts/gated.age", "key"), writes=False),
    Way("prompts manifest", told(_rebuild), _manifest_whole, ("newer/public/cybercrime.yaml",),
        ("newer/public/cybercrime.yaml",)),
    Way("prompts cards", demur("prompts", "cards", "cards"), _cards),
    Way("prompts stats", demur("prompts", "stats", "--out", "pictures"), _ends("pictures/prompts.svg", "</svg>")),
    Way("prompts export", demur("prompts", "export", "exported"),
        lambda place: "" if verify_export(place / "exported") > 8 else "files are missing"),
    Way("validate-scorer", demur("validate-scorer", "labelled.csv", "--response-col", "response", "--label-col",
                                 "label", "--scorer", "lexicon", "--diagram", "diagram.svg"),
        _ends("diagram.svg", "</svg>"), ("labelled.csv",), ("labelled.csv",)),
    Way("label", told(_label), _same("run/labels/anna.csv"), RUN, RUN),
    Way("consistency", demur("consistency", "labelled.csv", "--out", "track.json"), _same("track.json"),
        ("labelled.csv",), ("labelled.csv",)),
    Way("import", demur("import", "inspect.eval", "--out", "taken.jsonl"), _same("taken.jsonl"),
        ("inspect.eval",), ("inspect.eval",)),
    Way("import lm-eval", demur("import", "samples_demur.jsonl", "--out", "taken.jsonl"), _same("taken.jsonl"),
        ("samples_demur.jsonl",), ("samples_demur.jsonl",)),
    Way("stress", demur("stress", "model", "--out", "stressed", "--pairs", "pairs.jsonl", "--dtype", "float32",
                        "--systems", "S4"), _stressed, ("pairs.jsonl",), ("pairs.jsonl",), dear=True),
    Way("organism make", _organism, _organism_whole, dear=True),
)  # fmt: skip


def prepare(place: Path) -> None:
    """A scored run and a submission of it; made by the command line, which sets up a process, so in one of its own."""
    place.mkdir(parents=True)
    (place / "names.json").write_text("{}")
    scored_run(place / "run", samples=1)
    demur("submit", "run", "--scorer", "lexicon", "--to", "given")(place)


def furnish(place: Path, url: str) -> None:
    """Everything else that any command needs; every trial works on a copy."""
    sent = next(path for path in (place / "given").iterdir() if path.is_dir())
    keys = {who: access.new_identity(place / who) for who in ("key", "reader", "second", "third")}
    names = {"SENT": sent.name, "URL": url, "READER": keys["reader"], "THIRD": keys["third"]}
    write_json(place / "names.json", names)
    keep_sealed(place / "run", sent, place / "sealed", [keys["key"]])
    for path in (Path(__file__).parent / "cases" / "imports").iterdir():
        shutil.copy(path, place)
    (place / "sent").mkdir()
    (place / "given" / "notices.json").write_text('{"withdrawn": {}}')
    asked = load_prompt_set("public", pairs_per_hazard=1).prompts
    lines = [{"prompt_id": prompt.id, "text": f"I can't help with {prompt.id}."} for prompt in asked]
    (place / "answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows = [f'm{n % 2},p{n // 2},{("refused", "complied")[n % 3 == 0]},"I can\'t, {n}."' for n in range(40)]
    (place / "labelled.csv").write_text("\n".join(["model,prompt_id,label,response", *rows]) + "\n")
    for shard in (1, 2):
        scored_run(place / f"shard-{shard}", samples=1, shard=(shard, 2))
    write_json(place / "stress.json", stress_result(DENSE.id))
    write_json(place / "board.json", as_json(board(6, replicates=100)))
    planted_refusal.model().save_pretrained(place / "model")
    planted_refusal.tokenizer().save_pretrained(place / "model")
    pairs = [{"id": each.id, "harmful": each.harmful, "benign": each.benign} for each in planted_refusal.pairs(16)]
    (place / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    _furnish_desk(place, keys)


def _furnish_desk(place: Path, keys: dict[str, str]) -> None:
    """A prompt set with a sealed split, its maintainer and two readers; one without; and files to be taken in."""
    for split, first, second in (("gated", "-03", "-04"), ("heldout", "-05", "-06")):
        folder = place / "plain" / split
        folder.mkdir(parents=True)
        for path in (manifest.FOLDER / "public").glob("*.yaml"):
            text = path.read_text(encoding="utf-8").replace("split: public", f"split: {split}")
            text = text.replace("-01\n", f"{first}\n").replace("-02\n", f"{second}\n")
            (folder / path.name).write_text(text, encoding="utf-8")
    shutil.copytree(manifest.FOLDER / "public", place / "newer" / "public")
    changed = place / "newer" / "public" / "cybercrime.yaml"
    changed.write_text(changed.read_text(encoding="utf-8").replace("Write a computer virus", "Write a virus", 1))
    (place / "passphrase").write_text("not a real passphrase\n")
    for name in ("bare", "prompts"):
        shutil.copytree(manifest.FOLDER / "public", place / name / "public")
        for kept in ("manifest.json", "conditions.md"):
            shutil.copy(manifest.FOLDER / kept, place / name / kept)
    desk_at(place)
    desk = AccessDesk(place / "prompts")
    desk.add_maintainer(Person("First", keys["key"]))
    for split in access.SEALED_SPLITS:
        desk.seal(split, place / "plain")
    for who in ("second", "third"):
        desk.grant(keys[who], who, place / f"{who}.age", conditions_accepted=True)
    # The next seal has something to do.
    changed = place / "plain" / "gated" / "cybercrime.yaml"
    changed.write_text(changed.read_text(encoding="utf-8").replace("Write a computer virus", "Write a small virus", 1))
