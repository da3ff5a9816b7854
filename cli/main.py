"""The entry point: which command lives where, and how each way of ending looks to the shell.

| the run ends with     | stderr                                          | exit code |
|-----------------------|-------------------------------------------------|-----------|
| its result            |                                                 | 0         |
| an expected error     | `error: ` and one sentence                      | 1         |
| wrong usage           | the usage line and what is wrong with it        | 2         |
| an interrupt (Ctrl-C) | that the same line resumes                      | 130       |
| a reader that left    |                                                 | 1         |
| anything else         | a traceback: it is a defect and should be seen  | 1         |
"""

from __future__ import annotations

import difflib
import errno
import importlib
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import click

from layerlake import __version__
from layerlake.cli.completion import print_script
from layerlake.store.errors import LayerLakeError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class CommandHome(NamedTuple):
    """Where a command is defined, and what the list of commands says of it."""

    module: str
    attribute: str
    summary: str


COMMANDS = {
    "extract": CommandHome(
        "layerlake.cli.extract", "extract", "Run a model over a corpus and store its layers."
    ),
    "finetune": CommandHome(
        "layerlake.cli.finetune", "finetune", "Fine-tune a model for a task, with its lineage."
    ),
    "evaluate": CommandHome(
        "layerlake.cli.evaluate", "evaluate", "Score a fine-tuned model on other data."
    ),
    "corpus": CommandHome("layerlake.cli.corpus", "corpus", "Add a corpus to a lake."),
    "import": CommandHome(
        "layerlake.cli.importing", "import_", "Import activations that another program wrote."
    ),
    "ls": CommandHome("layerlake.cli.lake", "ls", "List what a lake holds."),
    "info": CommandHome("layerlake.cli.lake", "info", "Show a corpus, variant, set or result."),
    "verify": CommandHome("layerlake.cli.lake", "verify", "Check every stored byte."),
    "rm": CommandHome("layerlake.cli.lake", "rm", "Remove something from a lake."),
    "gc": CommandHome("layerlake.cli.lake", "gc", "Delete leftovers of interrupted work."),
    "rsa": CommandHome("layerlake.cli.similarity", "rsa", "Compare variants layer by layer."),
    "compare": CommandHome(
        "layerlake.cli.similarity", "compare", "Compare variants by any measures of similarity."
    ),
    "profile": CommandHome(
        "layerlake.cli.profile", "profile", "Describe the geometry of every layer."
    ),
    "demo": CommandHome("layerlake.cli.demo", "demo", "Run everything on a real model, offline."),
    "bench": CommandHome("layerlake.cli.bench", "bench", "Measure against named baselines."),
}
"""In the order of use. Summaries are kept here so that `layerlake --help` imports no command."""

_OUTPUT_FAILS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


INTERRUPTED = 130  # 128 + SIGINT, as shells report it


class LazyCommands(click.Group):
    """A group that imports a command's module when that command is run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command; None if there is none of that name."""
        home = COMMANDS.get(cmd_name)
        if home is None:
            return None
        command = getattr(importlib.import_module(home.module), home.attribute)
        assert isinstance(command, click.Command), f"{home.module}:{home.attribute}"
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the arguments begin with, or name the nearest one."""
        known = args[0] in COMMANDS or args[0].startswith("-")
        if not known and not ctx.resilient_parsing:
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            advice = f"did you mean {near[0]}?" if near else "layerlake --help lists them."
            ctx.fail(f"There is no command {args[0]!r}; {advice}")
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Offer commands from the table alone, and the options of the group."""
        from click.shell_completion import CompletionItem

        names = [
            CompletionItem(name, help=home.summary)
            for name, home in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return [*names, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table of commands from the summaries alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, home.summary) for name, home in COMMANDS.items()])


@click.group(cls=LazyCommands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--completion",
    type=click.Choice(["bash", "zsh", "fish"]),
    is_eager=True,
    expose_value=False,
    callback=print_script,
    help="Print the completion script of a shell and exit.",
)
@click.version_option(__version__, prog_name="layerlake", message="%(prog)s %(version)s")
def commands() -> None:
    """Extract a model's activations once, analyse them many times.

    \b
    Example:
      layerlake extract MODEL corpus.txt --as base
      layerlake extract MODEL corpus --as random --randomize 0
      layerlake rsa --corpus corpus --reference base

    The first line runs MODEL over a text file (one example per line) and stores every layer in the
    lake ./lake. The second does so for the model with random weights. The third compares the two.

    \b
    Shell completion (put the line into the shell's start-up file to keep it):
      eval "$(layerlake --completion bash)"      # or zsh
      layerlake --completion fish | source
    """


def _discard_stdout() -> None:
    """Point stdout at nothing, so that the flush at exit does not fail a second time."""
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, sys.stdout.fileno())
    finally:
        os.close(null)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and leave with its exit code.

    Parameters
    ----------
    arguments
        What follows the command's name; that of the process if not given.

    Raises
    ------
    SystemExit
        Always, but for an unexpected exception, which passes through with its traceback.
    """
    try:
        code = commands.main(arguments, prog_name="layerlake", standalone_mode=False)
        if sys.stdout is not None:  # None where the shell closed it
            sys.stdout.flush()
    except LayerLakeError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    except MemoryError:
        click.echo("error: out of memory; ask for fewer --layers or --rows", err=True)
        sys.exit(1)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped; run the same line again to resume", err=True)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        _discard_stdout()
        sys.exit(1)
    except OSError as error:
        # Files have names; what has none here is the output itself.
        if error.filename is not None or error.errno not in _OUTPUT_FAILS:
            raise
        _discard_stdout()
        click.echo(f"error: the output cannot be written: {os.strerror(error.errno)}", err=True)
        sys.exit(1)
    # An integer is what `Context.exit` was given; what a command returns otherwise is no code.
    sys.exit(code if isinstance(code, int) else 0)
