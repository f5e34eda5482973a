"""One module for each stage: its parties, their preparation, and the goals."""

from bench.stages import (
    api,
    dispatch,
    dispatch_receipts,
    dispatch_slow,
    fan_out,
    footprint,
    importing,
    processes,
    punctuality,
    receipts,
    statements,
    statistic,
    writes,
)

STAGES = (
    importing.STAGE,
    fan_out.STAGE,
    dispatch.STAGE,
    dispatch_slow.STAGE,
    dispatch_receipts.STAGE,
    processes.STAGE,
    statements.STAGE,
    writes.STAGE,
    statistic.STAGE,
    api.STAGE,
    receipts.STAGE,
    punctuality.STAGE,
    footprint.STAGE,
)
