"""`completion`: nouns, verbs and options, completed by the shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from services.cli.group import PROGRAM, alone
from services.cli.session import Failure

VARIABLE = "_PHARMALOOP_COMPLETE"


@alone("completion", "bash > ~/.local/share/bash-completion/completions/pharmaloop", "zsh", "fish")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script by which SHELL completes nouns, verbs and options.

    For the shell that runs now: eval "$(pharmaloop completion bash)", or zsh; in
    fish: pharmaloop completion fish | source.
    """
    found = get_completion_class(shell)
    if found is None:
        raise Failure(f"{shell} is not known; give one of bash, zsh and fish")
    made = found(context.find_root().command, {}, PROGRAM, VARIABLE)
    click.echo(made.source_template % made.source_vars())
