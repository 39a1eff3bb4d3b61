"""Every metric that the documentation promises is fed by the node."""

from __future__ import annotations

import pytest

from kvshim.backend.datadir import DataDir
from kvshim.config import Loaded, load
from kvshim.config.model import LogConfig, LogFormat, LogLevel
from kvshim.logs import open_logger
from kvshim.node.metering import wire_metrics
from kvshim.node.parts import build


@pytest.fixture
def quiet():
    return open_logger(LogConfig(LogLevel.ERROR, LogFormat.JSON, ("/dev/null",)))


async def test_a_complete_node_has_no_metric_without_a_source(tmp_path, quiet):
    loaded = load(["--data-dir", str(tmp_path / "data")], {})
    assert isinstance(loaded, Loaded)
    data_dir = DataDir.open(loaded.config.data_dir)
    parts = await build(loaded.config, data_dir, quiet, lambda _: None)
    wire_metrics(parts)
    assert parts.metrics.unwired() == []
    page = parts.metrics.render().decode()
    assert "\netcd_debugging_mvcc_current_revision 1.0\n" in page
    await parts.log.stop()
    parts.readers.shutdown()
    parts.storage.store.close()
    data_dir.close()
