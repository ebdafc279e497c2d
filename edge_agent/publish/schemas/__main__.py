"""Write the schema files: `python -m edge_agent.publish.schemas`. Run it after a change in `publish.structs`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edge_agent.publish.schemas import file_name, generate
from edge_agent.publish.topics import KINDS


@click.command()
def main() -> None:
    """Write the JSON Schema of every payload beside this module."""
    for kind in KINDS:
        path = Path(__file__).with_name(file_name(kind))
        path.write_text(json.dumps(generate(kind), indent=2) + "\n")
        click.echo(path.name)


if __name__ == "__main__":
    main()
