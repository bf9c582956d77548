"""The one exception that says: the user must mend something."""

from collections.abc import Iterable

from .masking import masked

__all__ = ["DemurError", "raise_all"]


class DemurError(Exception):
    """A fault that the user can mend. The command line prints it without a traceback and exits with 1.

    Age secret keys and what an address holds beyond host and path are left out of what it says.

    Args:
        message: what is wrong and where (file, line or JSON path), in one sentence.
        fix: what to do about it.
    """

    def __init__(self, message: str, fix: str = "") -> None:
        self.message, self.fix = masked(message), masked(fix)
        super().__init__(self.message, self.fix)

    def __str__(self) -> str:
        message, fix = _short(self.message, 17_000), _short(self.fix, 2_000)
        return f"{message}\n  Mend: {fix}" if fix else message


def raise_all(where: str, problems: Iterable[str], fix: str = "", limit: int = 20) -> None:
    """Raise one error that lists every problem (the first ``limit`` in full); do nothing where there is none."""
    found = list(problems)
    if not found:
        return
    shown = "\n".join(f"  - {_short(problem)}" for problem in found[:limit])
    rest = f"\n  - and {len(found) - limit} more" if len(found) > limit else ""
    raise DemurError(f"{where}: {len(found)} problem{'s' if len(found) > 1 else ''}\n{shown}{rest}", fix)


def _short(problem: str, longest: int = 800) -> str:
    """A problem that quotes a long value keeps its beginning and its end, where the place and the rule stand."""
    return problem if len(problem) <= longest else f"{problem[: longest // 2]} … {problem[-longest // 2 :]}"
