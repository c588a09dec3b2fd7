"""`faasflow completion`: lets a shell complete commands and options."""

from __future__ import annotations

import click

from faasflow.cli.console import show


@click.command(short_help="Write what a shell needs to complete commands.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Write what makes SHELL complete the commands and options of faasflow.

    \b
    Examples:
      source <(faasflow completion bash)
      faasflow completion fish > ~/.config/fish/completions/faasflow.fish
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    show(found(context.find_root().command, {}, "faasflow", "_FAASFLOW_COMPLETE").source())
