"""Writes docs/commands.md from the help texts of both commands, so that the page cannot say what they do not.

`python docs/generate.py --check` writes nothing and fails where the page has drifted.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from edge_agent.cli import main as edge_agent
from model_factory.cli import main as model_factory

PAGE = Path(__file__).resolve().parent / "commands.md"
WIDTH = 110
HEAD = """# Commands

The help of every command, as `--help` prints it. Written by `make docs`; edit the help texts, not this page.
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for name, group in (("edge-agent", edge_agent), ("model-factory", model_factory)):
        for context in contexts(group, name):
            words = context.command_path
            parts.append(f"{'#' * min(len(words.split()) + 1, 3)} {words}\n\n```text\n{help_text(context)}\n```\n")
    return "\n".join(parts)


def contexts(command: click.Command, name: str, parent: click.Context | None = None) -> Iterator[click.Context]:
    """A command and all below it, in the order of its help."""
    width = {"terminal_width": WIDTH, "max_content_width": WIDTH}
    context = click.Context(command, parent, name, **{**command.context_settings, **width})
    yield context
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            yield from contexts(command.commands[below], below, context)


def help_text(context: click.Context) -> str:
    """What `--help` prints, at a fixed width and without trailing spaces."""
    return "\n".join(line.rstrip() for line in context.get_help().splitlines())


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; fail where the page has drifted.")
def generate(check: bool) -> None:
    """Write docs/commands.md."""
    if not check:
        PAGE.write_text(page(), encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page():
        raise click.ClickException("docs/commands.md no longer says what the commands do: run `make docs`")


if __name__ == "__main__":
    generate()
