"""``demur access``: sealing, granting, tracing."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from .terminal import Console, say, say_data

access_app = typer.Typer(
    name="access", no_args_is_help=True, help="Keys, sealed splits, marked copies, and requests on the Hub."
)

SplitOption = Annotated[str, typer.Option(help="gated or heldout")]
RepoArgument = Annotated[str, typer.Argument(help="Hub dataset repository, for example org/demur")]


@access_app.command()
def keygen(path: Annotated[Path, typer.Argument(help="file to write the secret key to")]) -> None:
    """Make a key pair for asking for access."""
    from .benchmark.access import new_identity

    public = new_identity(path)
    say(f"secret key in {path}: keep it to yourself, and point DEMUR_IDENTITY at it")
    say(f"public key to send with your request: {public}")


@access_app.command()
def init(name: Annotated[str, typer.Option(help="name of the maintainer")]) -> None:
    """Make the maintainer's identity, encrypted under the passphrase, in the repository."""
    from .benchmark.access import AccessDesk

    person = AccessDesk().appoint(name)
    say(f"maintainer {person.name}: {person.key}")
    say("next: demur access seal --split gated --from FOLDER")


@access_app.command()
def maintainer(to: Annotated[str, typer.Option(help="age public key")], name: Annotated[str, typer.Option()]) -> None:
    """Let one more maintainer open the sealed splits."""
    from .benchmark.access import SEALED_SPLITS, AccessDesk
    from .benchmark.recipients import Person

    desk = AccessDesk()
    desk.add_maintainer(Person(name, to))
    for split in SEALED_SPLITS:
        desk.seal(split)
    say(f"{name} can open the sealed splits; next: commit {desk.folder}")


@access_app.command()
def seal(
    split: SplitOption = "gated",
    source: Annotated[
        Path | None, typer.Option("--from", help="folder of the plain YAML files, outside the repository")
    ] = None,
) -> None:
    """Seal a split to the maintainers; does nothing where nothing changed."""
    from .benchmark.access import AccessDesk
    from .benchmark.prompts import split_named

    desk = AccessDesk()
    written = desk.seal(split_named(split), source)
    say(f"{desk.folder / split}.age: {'sealed' if written else 'nothing changed'}")
    say("next: commit the prompts folder" if written else "next: nothing to do")


@access_app.command(name="open")
def open_(
    split: SplitOption = "gated",
    stdout: Annotated[
        bool, typer.Option("--stdout", help="print the prompts as JSON lines; redirect with care")
    ] = False,
) -> None:
    """Open a sealed split with DEMUR_IDENTITY, in memory, and say what it holds."""
    from .benchmark.prompts import load_prompt_set

    opened = load_prompt_set(split)
    if stdout:
        for prompt in opened.prompts:
            say_data(json.dumps(asdict(prompt)))
    Console(stderr=True).print(
        f"{len(opened.prompts)} prompts of split {split}, version {opened.version}, set {opened.hash[:12]}: they match "
        f"the manifest\nnext: demur run MODEL --split {split}"
    )


@access_app.command()
def grant(
    to: Annotated[str, typer.Option(help="the recipient's age public key")],
    name: Annotated[str, typer.Option(help="who they are")],
    out: Annotated[Path, typer.Option(help="file for their copy")],
    conditions_accepted: Annotated[
        bool, typer.Option("--conditions-accepted", help="they accepted prompts/conditions.md")
    ] = False,
) -> None:
    """Write a marked copy of the gated split for one recipient."""
    from .benchmark.access import AccessDesk

    entry = AccessDesk().grant(to, name, out, conditions_accepted=conditions_accepted)
    say(f"{out}: copy of version {entry.version} for {name}, ledger entry {entry.number}")
    say("next: send it to them; they set DEMUR_COPY to it and DEMUR_IDENTITY to their key; commit the ledger")


@access_app.command()
def revoke(
    name: Annotated[str, typer.Option(help="who")],
    out: Annotated[Path, typer.Option(help="folder for new copies of the remaining readers")],
) -> None:
    """Take access back and seal again for the rest."""
    from .benchmark.access import CANNOT_UNDO, AccessDesk

    paths = AccessDesk().revoke(name, out)
    say(f"{name} is off the list; the splits are sealed again for the rest")
    say(CANNOT_UNDO)
    send = "send them and " if paths else ""
    say(f"{len(paths)} new copies in {out}; next: {send}commit the prompts folder")


@access_app.command(name="list")
def list_() -> None:
    """List maintainers and readers."""
    from .benchmark.access import AccessDesk

    held = AccessDesk().recipients()
    for role, people in (("maintainer", held.maintainers), ("reader", held.readers)):
        for person in people:
            say_data(f"{role}\t{person.name}\t{person.key}")
    say("next: demur access verify checks the ledger of grants")


@access_app.command()
def trace(leak: Annotated[Path, typer.Argument(help="text file, one leaked prompt a line")]) -> None:
    """Name whose copy a leak comes from."""
    from .benchmark.access import AccessDesk, names_by_key
    from .benchmark.extras import need

    need("sklearn", "curation")
    from .benchmark.tracing import trace_leak

    desk = AccessDesk()
    found = trace_leak(desk, leak)
    names = names_by_key(desk.entries())
    say(f"{found.lines} lines, {found.prompts} prompts of the set, {found.telling} of them with a mark")
    table = Table("recipient", "log10 of the evidence", "named")
    for suspect in found.suspects[:5]:
        table.add_row(names[suspect.recipient], f"{suspect.log10_e:.2f}", "yes" if suspect.named else "no")
    Console().print(table)
    if found.named:
        say(f"the copy of {' and '.join(names[key] for key in found.named)}; next: demur access revoke")
    else:
        say(f"nobody is named: the evidence must reach {found.threshold:.2f}; next: find more of the leak")


@access_app.command()
def verify() -> None:
    """Check the ledger of grants: no entry was edited, removed or added."""
    from .benchmark.access import AccessDesk

    desk = AccessDesk()
    entries = desk.entries()
    say(f"{desk.ledger}: {len(entries)} entries, the chain holds")
    say("next: compare its head with an older commit's to see that history is the same")


@access_app.command()
def requests(repo_id: RepoArgument) -> None:
    """List the pending access requests of the Hub repository."""
    from .benchmark.hub import pending_requests

    table = Table("user", "name", "e-mail", "asked at")
    found = pending_requests(repo_id)
    for request in found:
        table.add_row(request.username, request.fullname, request.email, request.timestamp)
    Console().print(table)
    say(f"{len(found)} pending; next: demur access accept {repo_id} USER, or reject")


@access_app.command()
def accept(repo_id: RepoArgument, user: str) -> None:
    """Accept a request on the Hub."""
    from .benchmark.hub import accept_request

    accept_request(repo_id, user)
    say(f"{user} can read {repo_id}; next: demur access grant --to KEY --name {user} --out FILE")


@access_app.command()
def reject(
    repo_id: RepoArgument, user: str, reason: Annotated[str, typer.Option(help="told to the user")] = ""
) -> None:
    """Reject a request on the Hub."""
    from .benchmark.hub import reject_request

    reject_request(repo_id, user, reason)
    say(f"{user} was rejected on {repo_id}; next: nothing to do")
