"""Results as tables for a paper or a page: Markdown, and LaTeX with booktabs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from layerlake.analyses.results.parts import Part
from layerlake.analyses.results.record import Records
from layerlake.analyses.results.tables import Grid, grid_of

_LATEX: Final = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", "±": r"$\pm$", "\n": " ", "\r": " ",
}  # fmt: skip


def markdown_text(result: Records, parts: Sequence[Part]) -> str:
    """Return every part as a Markdown table under its title, and the notes as a list."""
    blocks = [_markdown(grid_of(result, part)) for part in parts]
    if result.notes:
        blocks.append("\n".join(f"- {_escaped(note)}" for note in result.notes))
    return "\n\n".join(blocks) + "\n"


def latex_text(result: Records, parts: Sequence[Part]) -> str:
    """Return every part as a LaTeX table (package booktabs), and the notes as comments."""
    blocks = [_latex(grid_of(result, part)) for part in parts]
    lines = (" ".join(note.split()) for note in result.notes)
    blocks += ["\n".join(f"% note: {line}" for line in lines)] if result.notes else []
    return "\n\n".join(blocks) + "\n"


def _markdown(grid: Grid) -> str:
    head, *body = [[_escaped(cell) for cell in row] for row in grid.rows]
    sides = [":---" if grid.first_is_text else "---:", *[":---"] * (len(head) - 1)]
    lines = [f"| {' | '.join(row)} |" for row in (head, sides, *body)]
    return "\n".join([f"**{_escaped(grid.title)}**", "", *lines, "", _escaped(grid.about)])


def _escaped(text: str) -> str:
    """Return text that Markdown shows as it is."""
    for sign in "\\|*_`<":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())


def _latex(grid: Grid) -> str:
    head, *body = [[latex_escaped(cell) for cell in row] for row in grid.rows]

    def line(cells: Sequence[str]) -> str:
        """Return a row."""
        return "  " + " & ".join(cells) + r" \\"

    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering",
            f"  \\caption{{{latex_escaped(grid.title)}. {latex_escaped(grid.about)}.}}",
            f"  \\begin{{tabular}}{{{'l' if grid.first_is_text else 'r'}{'l' * (len(head) - 1)}}}",
            r"  \toprule",
            line(head),
            r"  \midrule",
            *map(line, body),
            r"  \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
        ]
    )


def latex_escaped(text: str) -> str:
    """Return text that LaTeX sets as it is."""
    return "".join(_LATEX.get(sign, sign) for sign in text)
