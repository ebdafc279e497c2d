"""Documents that cannot drift: commands, links and paths in them are checked against the code."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import click
import pytest

from edge_agent.cli import main as edge_agent
from model_factory.cli import main as model_factory

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "firmware_configs").rglob("*.md")])
WRITTEN = [path for path in PAGES if path.name != "commands.md"]  # that one is generated
COMMANDS = {"edge-agent": edge_agent, "model-factory": model_factory}
SHOWN = re.compile(r"(?:^|[`$ /])(edge-agent|model-factory)((?: +[^\s`|;&>]+)*)", re.M)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
HOME = re.compile(r"/(?:home|root|work|Users)/\w+|/opt/\w+")


def shown_commands(text: str) -> list[tuple[str, list[str]]]:
    """Commands in code, as (program, words): in fenced blocks every line, elsewhere what stands between backticks."""
    code = [*re.findall(r"^```[^\n]*\n(.*?)^```", text, re.M | re.S), *re.findall(r"`([^`\n]+)`", text)]
    return [(program, rest.split()) for part in code for program, rest in SHOWN.findall(part)]


def unknown(program: str, words: list[str]) -> str | None:
    """What a shown command names that does not exist: a subcommand or an option."""
    command: click.Command = COMMANDS[program]
    path = program
    for word in words:
        if isinstance(command, click.Group) and re.fullmatch(r"[a-z]+", word):
            if word not in command.commands:
                return f"{path} {word}"
            command, path = command.commands[word], f"{path} {word}"
            continue
        if isinstance(command, click.Group) and hasattr(command, "default"):
            command = command.commands[command.default]
        if word.startswith("--") and len(word) > 2:
            options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
            if word.partition("=")[0] not in options | {"--help"}:
                return f"{path} {word}"
    return None


def test_command_reference_is_what_help_prints() -> None:
    page = runpy.run_path(str(ROOT / "docs" / "generate.py"))["page"]()
    assert (ROOT / "docs" / "commands.md").read_text(encoding="utf-8") == page, "run `make docs`"


@pytest.mark.parametrize("path", WRITTEN, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_and_options_that_documents_show_exist(path: Path) -> None:
    wrong = [name for shown in shown_commands(path.read_text(encoding="utf-8")) if (name := unknown(*shown))]
    assert not wrong


@pytest.mark.parametrize("path", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    targets = [t.partition("#")[0] for t in LINK.findall(path.read_text(encoding="utf-8"))]
    local = [t for t in targets if t and "://" not in t and not t.startswith("mailto:")]
    assert [t for t in local if not (path.parent / t).exists()] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_document_names_a_folder_of_one_machine(path: Path) -> None:
    assert HOME.findall(path.read_text(encoding="utf-8")) == []


def test_make_targets_that_documents_show_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    named = {
        word for path in PAGES for word in re.findall(r"(?:`|^)make ([a-z]+)", path.read_text(encoding="utf-8"), re.M)
    }
    assert named <= targets


def test_demo_and_test_come_first_in_the_readme() -> None:
    shown = re.findall(r"^make (\w+)", (ROOT / "README.md").read_text(encoding="utf-8"), re.M)
    assert shown[:2] == ["demo", "test"]
