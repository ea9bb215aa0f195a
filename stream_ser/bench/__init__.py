"""What recognition costs here: latency of a hop, real-time factor, share of a core, memory, capacity.

:mod:`~stream_ser.bench.runs` measures, :mod:`~stream_ser.bench.report` puts it together and compares two reports,
:mod:`~stream_ser.bench.machine` says on what.
"""
