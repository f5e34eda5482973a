"""One module a stage: who takes part, how each is prepared, and the goals."""

from bench.stages import dispatch

STAGES = (dispatch.STAGE,)
