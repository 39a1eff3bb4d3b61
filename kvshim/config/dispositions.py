"""What becomes of the flags that are not simply obeyed: renamed, accepted or refused.

Turns retired flags into the flags or gates of today, warns once for each flag that has no effect,
and stops at the first refused one. Changes the `Settings` it is given, nothing else.
"""

from __future__ import annotations

from kvshim.config import gates
from kvshim.config.errors import ConfigError
from kvshim.config.flag import Disposition, Flag, Kind
from kvshim.config.retired_flags import Retired
from kvshim.config.settings import Notice, NoticeKind, Settings
from kvshim.config.tables import BY_NAME, RETIRED_BY_NAME
from kvshim.config.values import parse_bool, parse_duration


def settle(settings: Settings) -> list[Notice]:
    """Resolve every given flag by its disposition; ConfigError for a refused one."""
    notices: list[Notice] = []
    told_gates: set[str] = set()
    for name in list(settings.texts):
        flag = BY_NAME[name]
        match flag.disposition:
            case Disposition.REFUSED:
                if not _asks_for_default(flag, settings.text(name)):
                    raise ConfigError(f"{settings.spelled(name)} is refused: {flag.note}")
            case Disposition.ACCEPTED:
                if not _is_so_anyway(flag, settings.text(name)):
                    notices.append(Notice(NoticeKind.NO_EFFECT, f"--{name}", flag.note))
            case Disposition.OBEYED:
                retired = RETIRED_BY_NAME.get(name)
                if retired is not None:
                    notices.append(_modernise(settings, retired))
                    told_gates.add(retired.gate or "")
    notices.extend(_gate_notices(settings, told_gates))
    return notices


def _modernise(settings: Settings, retired: Retired) -> Notice:
    old = retired.flag
    spelled, text = f"--{old.name}", settings.text(old.name)
    if retired.gate is not None:
        wins = retired.gate in settings.gates()
        if not wins:
            both = [settings.text("feature-gates"), f"{retired.gate}={text}"]
            _pass_on(settings, old, BY_NAME["feature-gates"], ",".join(filter(None, both)))
        reason = f"{old.note}, and has no effect: {gates.NOTES[retired.gate]}"
        return Notice(NoticeKind.NO_EFFECT, spelled, reason)
    assert retired.now is not None
    now = BY_NAME[retired.now]
    if settings.given(now.name):
        reason = f"{old.note}, which is given too and wins"
        return Notice(NoticeKind.RENAMED, spelled, reason)
    _pass_on(settings, old, now, text)
    if now.disposition is Disposition.ACCEPTED:
        return Notice(NoticeKind.NO_EFFECT, spelled, f"{old.note}, and has no effect: {now.note}")
    return Notice(NoticeKind.RENAMED, spelled, old.note)


def _pass_on(settings: Settings, old: Flag, now: Flag, text: str) -> None:
    settings.give(now, text, settings.sources[old.name])


def _gate_notices(settings: Settings, told: set[str]) -> list[Notice]:
    return [
        Notice(NoticeKind.NO_EFFECT, f"--feature-gates={name}", gates.NOTES[name])
        for name, on in settings.gates().items()
        if on != gates.KNOWN_GATES[name] and name not in told
    ]


def _asks_for_default(flag: Flag, text: str) -> bool:
    match flag.kind:
        case Kind.BOOL:
            return parse_bool(text) == parse_bool(flag.default)
        case Kind.DURATION:
            return parse_duration(text) == parse_duration(flag.default)
        case _:
            return text == flag.default


def _is_so_anyway(flag: Flag, text: str) -> bool:
    if flag.kind is not Kind.BOOL:
        return False
    return not parse_bool(flag.default) and not parse_bool(text)
