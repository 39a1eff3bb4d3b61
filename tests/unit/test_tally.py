"""Plain histograms are scraped exactly as the metrics library's own."""

from prometheus_client import CollectorRegistry, Histogram, generate_latest

from kvshim.metrics.instruments import BATCH_SIZES, PAUSE_SECONDS
from kvshim.metrics.tally import TallyHistogram


def test_a_histogram_is_scraped_as_the_librarys():
    values = [0, 0.0005, 0.00051, 0.02, 1, 1.5, 2, 4096, 4096.1, 1e9]
    for buckets in (BATCH_SIZES, PAUSE_SECONDS):
        ours, theirs = CollectorRegistry(), CollectorRegistry()
        mine = TallyHistogram("some_seconds", "Some text.", buckets, registry=ours)
        library = Histogram("some_seconds", "Some text.", buckets=buckets, registry=theirs)
        assert generate_latest(ours) == page_of(theirs)
        for value in values:
            mine.observe(value)
            library.observe(value)
        assert generate_latest(ours) == page_of(theirs)


def page_of(registry: CollectorRegistry) -> bytes:
    """Without the times at which metrics were made, which a server does not show."""
    lines = generate_latest(registry).splitlines(keepends=True)
    return b"".join(line for line in lines if b"_created" not in line)
