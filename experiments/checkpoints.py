"""Checkpoints of distilling: a state is saved once the step after it has shown that it is good.

A step's loss is that of the numbers which the step before left. So a set that is about to
diverge looks well when its step ends; saved at once, its state would replace the last good one.
"""

import time
from collections.abc import Mapping
from typing import Any, final

from distill.condenser import Step
from experiments.scenarios.base import Folder


@final
class Checkpoints:
    """Saves states one step late: early and seldom at first, then at even intervals.

    The first two are the start and what the first step left; each later one comes when twice
    the time has passed as at the one before, or ``seconds`` more. So a run that diverges at once
    leaves a good state as well.
    """

    def __init__(self, folder: Folder, seconds: float) -> None:
        self.folder, self.seconds = folder, seconds
        self.start = self.last = time.perf_counter()
        self.waiting: Mapping[str, Any] | None = None

    def after(self, step: Step, beside: Mapping[str, Any]) -> None:
        """Saves what waits, as this step was good; the step's own state waits, if one is due.

        Args:
            step: What has been done. Nothing comes after the last step, whose state is saved.
            beside: What to save beside ``state``.
        """
        good = {"state": step.start, **beside} if step.start is not None else self.waiting
        if good is not None:
            self.folder.save_checkpoint(good)
            self.waiting = None
        now = time.perf_counter()
        if step.done == step.total:
            self.folder.save_checkpoint({"state": step.state(), **beside})
        elif now - self.last > min(self.seconds, self.last - self.start):
            self.waiting, self.last = {"state": step.state(), **beside}, now
