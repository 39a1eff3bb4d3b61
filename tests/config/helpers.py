"""Reading settings in tests: what came out, or the one sentence that was said instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from kvshim.config import Config, ConfigError, Loaded, Notice, load


def loaded(argv: Sequence[str], environ: Mapping[str, str] | None = None) -> Loaded:
    outcome = load(argv, environ or {})
    assert isinstance(outcome, Loaded)
    return outcome


def config_of(argv: Sequence[str], environ: Mapping[str, str] | None = None) -> Config:
    return loaded(argv, environ).config


def notices_of(argv: Sequence[str], environ: Mapping[str, str] | None = None) -> tuple[Notice, ...]:
    return loaded(argv, environ).notices


def refusal(argv: Sequence[str], environ: Mapping[str, str] | None = None) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(argv, environ or {})
    message = str(caught.value)
    assert "\n" not in message, "an operator is told one sentence"
    return caught.value
