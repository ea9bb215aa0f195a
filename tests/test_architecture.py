"""docs/architecture.md says what is there: every room with what it may import, every file, and the places it names."""

from __future__ import annotations

import re
from pathlib import Path

from rooms import BASE, ROOMS

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[list[str]]:
    """Cells of the table under a heading, without its two first lines."""
    section = PAGE.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_rooms_are_those_of_the_import_rules() -> None:
    said = {room: set(others.split()) for room, others, _ in rows("Rooms") if not room.startswith("cli")}
    assert said.pop("base") == set()
    assert said == {room: set(others) for room, others in ROOMS.items() if not room.startswith(("cli", "__"))}
    (base,) = [about for room, _, about in rows("Rooms") if room == "base"]
    assert set(re.findall(r"`(\w+)`", base)) == BASE


def test_every_file_is_named_where_it_lies() -> None:
    section = PAGE.split("## Every file\n", 1)[1]
    folder, said = "", set()
    for line in section.splitlines():
        if match := re.fullmatch(r"`(\S+/)`", line):
            folder = match[1]
        elif match := re.match(r"- `(\S+\.py)`: \S", line):
            said.add(folder + match[1])
    folders = ("stream_ser", "train", "export")
    paths = {path for name in folders for path in (ROOT / name).rglob("*.py") if path.name != "__init__.py"}
    assert said == {path.relative_to(ROOT).as_posix() for path in paths}


def test_places_that_are_named_are_there() -> None:
    named = {
        name for row in (*rows("The way of the audio"), *rows("Where things go")) for name in row[1].split("`")[1::2]
    }
    paths = {name for name in named if "/" in name or name.endswith(".py")}
    assert len(paths) > 15
    gone = [name for name in paths if not any((ROOT / base / name).exists() for base in ("", "stream_ser"))]
    assert gone == []


def test_no_test_module_imports_another() -> None:
    """What tests share is in tests/support, so that any of them can be run, moved or deleted alone."""
    modules = [path for path in (ROOT / "tests").rglob("*.py") if path.name.startswith(("test_", "conftest"))]
    assert len(modules) > 100
    shared = re.compile(r"^\s*(?:from|import) (?:tests\b|test_\w+|conftest\b)", re.MULTILINE)
    assert [path.name for path in modules if shared.search(path.read_text(encoding="utf-8"))] == []
