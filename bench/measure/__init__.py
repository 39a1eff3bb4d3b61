"""What `python -m bench` can measure: one file a subject, each on servers of its own."""

from bench.measure import cost, far_back, idle, lag, large, long_load, small, starts, three
from bench.trial import Measurement

MEASUREMENTS: tuple[Measurement, ...] = (
    small.LOAD,
    small.TLS,
    small.GET,
    three.THREE,
    small.WATCH,
    large.LARGE,
    far_back.OLD,
    lag.LAG,
    starts.START,
    idle.IDLE,
    three.CALM,
    cost.DISK,
    long_load.HOUR,
)
