"""The tables of docs/configuration.md, made from the flag tables.

`python -m tests.config.reference` rewrites them; `test_docs` fails when they are out of date.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from kvshim.config.etcd_other_flags import IGNORED
from kvshim.config.extra_flags import EXTRAS
from kvshim.config.flag import Disposition, Flag, Section
from kvshim.config.gates import DEFAULTS, NOTES
from kvshim.config.retired_flags import RETIRED
from kvshim.config.tables import ETCD_FLAGS, env_name

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"
_BLOCK = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def rendered(page: str) -> str:
    """The page with every table made anew."""
    return _BLOCK.sub(lambda match: match[1] + "\n".join(_table(match[2])) + "\n" + match[3], page)


def _table(name: str) -> Iterable[str]:
    match name:
        case "etcd":
            return _etcd()
        case "retired":
            return _retired()
        case "gates":
            return _gates()
        case "extras":
            return _extras()
        case _:
            raise ValueError(name)


def _etcd() -> Iterable[str]:
    for section in Section:
        flags = [flag for flag in ETCD_FLAGS if flag.section is section and flag not in IGNORED]
        if flags:
            yield f"\n### {section.value}\n"
            yield "| flag | kind | default | |\n|---|---|---|---|"
            yield from map(_row, flags)
    yield f"\n### {Section.RETIRED.value} before version 3\n"
    names = ", ".join(f"`--{flag.name}`" for flag in IGNORED)
    yield f"Accepted with one warning, as etcd does without: {names}."


def _row(flag: Flag) -> str:
    default = f"`{flag.default}`" if flag.default else ""
    return f"| `--{flag.name}` | {flag.kind.value} | {default} | {_meaning(flag)} |"


def _meaning(flag: Flag) -> str:
    match flag.disposition:
        case Disposition.OBEYED:
            return _plain(flag.help)
        case Disposition.ACCEPTED:
            return f"{flag.help} **No effect:** {flag.note}."
        case Disposition.REFUSED:
            return f"{flag.help} **Refused:** {flag.note}."


def _plain(text: str) -> str:
    return text.replace("<", "&lt;")


def _retired() -> Iterable[str]:
    yield "| flag | |\n|---|---|"
    for row in RETIRED:
        if row.now:
            text = f"Now `--{row.now}`."
        elif row.gate:
            text = f"Now `--feature-gates={row.gate}=<bool>`, and without effect like the gate."
        elif row.flag.disposition is Disposition.REFUSED:
            off = f" (`{row.flag.default}` is taken)" if row.flag.default else ""
            text = f"**Refused**{off}: {row.flag.note}."
        else:
            text = f"**No effect:** {row.flag.note}."
        yield f"| `--{row.flag.name}` | {text} |"


def _gates() -> Iterable[str]:
    yield "| gate | etcd's default | why it has no effect |\n|---|---|---|"
    for name, on in DEFAULTS.items():
        yield f"| `{name}` | {str(on).lower()} | {NOTES[name]} |"


def _extras() -> Iterable[str]:
    yield "| flag | variable | default | |\n|---|---|---|---|"
    for flag in EXTRAS:
        choices = f" One of: {', '.join(flag.choices)}." if flag.choices else ""
        cells = (f"`--{flag.name}`", f"`{env_name(flag)}`", f"`{flag.default}`")
        yield f"| {' | '.join(cells)} | {flag.help}{choices} |"


if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
