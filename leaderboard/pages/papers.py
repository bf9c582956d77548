"""What a board gives to a paper: a LaTeX table and BibTeX."""

from collections.abc import Mapping

from ..board import Board, Row
from .text import ARCHITECTURES, decimals, parameters, plain

__all__ = ["as_latex", "bibtex"]

_TITLE = "{Demur}: a benchmark of refusal consistency for language models, Mixture-of-Experts and dense"
_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        '"': "''",
        "\N{MINUS SIGN}": "$-$",
        "\N{EN DASH}": "--",
    }
)


def as_latex(board: Board) -> str:
    """The ranking as a LaTeX table for the packages ``booktabs`` and ``longtable``."""
    k = board.ranking.k
    lines = [
        "% needs \\usepackage{booktabs,longtable}",
        f"% Demur {board.package_version}, prompt set {board.prompts.version if board.prompts else 'none'}, "
        f"made at {board.made_at}",
        r"\begin{longtable}{rllrcccc}",
        r"\toprule",
        rf"Rank & Model & Architecture & Active & C@{k} & Refusal & Over-refusal & $J$ \\",
        r"\midrule",
        r"\endhead",
        *[_latex_row(row) for row in board.rows if row.state == "ranked"],
        r"\bottomrule",
        r"\end{longtable}",
    ]
    return "\n".join(lines) + "\n"


def bibtex(board: Board) -> str:
    """BibTeX of the benchmark, and of this board and the scorer that judged it where there are rows."""
    year = board.made_at[:4]
    prompts = f", prompt set {_tex(board.prompts.version)}" if board.prompts else ""
    digest = f" (SHA-256 {_tex(board.prompts.hash[:16])})" if board.prompts else ""
    entries = [
        _entry(
            "software",
            "demur",
            {
                "title": _TITLE,
                "version": f"{board.package_version}{prompts}{digest}",
                "year": year,
            },
        ),
    ]
    if board.rows:
        entries.append(
            _entry(
                "misc",
                f"demur-board-{board.made_at[:10]}",
                {
                    "title": "{Demur} leaderboard",
                    "year": year,
                    "note": f"{len(board.rows)} submissions{prompts}, made at {board.made_at}",
                },
            )
        )
    if board.scorer:
        entries.append(
            _entry(
                "software",
                "demur-scorer",
                {
                    "title": f"Scorer {_tex(board.scorer.name)} of {{Demur}}",
                    "version": _tex(f"{board.scorer.version} (hash {board.scorer.hash})"),
                    "year": year,
                },
            )
        )
    return "\n".join(entries)


def _tex(text: str) -> str:
    return plain(text).translate(_LATEX)


def _latex_row(row: Row) -> str:
    span = f" ({row.rank_set[0]}--{row.rank_set[1]})" if row.rank_set else ""
    headline = decimals(row.headline.value)
    if row.headline.low is not None and row.headline.high is not None:
        headline += f" [{decimals(row.headline.low)}, {decimals(row.headline.high)}]"
    cells = [
        f"{row.rank}{span}",
        _tex(row.model.id),
        ARCHITECTURES[row.model.architecture],
        _tex(parameters(row.model.active_parameters)),
        *(_tex(text) for text in (headline, *_rates(row))),
    ]
    return " & ".join(cells) + r" \\"


def _rates(row: Row) -> list[str]:
    figures = row.refused
    return [decimals(e.value) for e in (figures.refusal_rate, figures.over_refusal_rate, figures.discrimination)]


def _entry(kind: str, key: str, content: Mapping[str, str]) -> str:
    body = "".join(f"  {name} = {{{text}}},\n" for name, text in {"author": "{The Demur authors}", **content}.items())
    return f"@{kind}{{{key},\n{body}}}\n"
