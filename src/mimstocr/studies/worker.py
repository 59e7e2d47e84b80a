"""One run of a study in a process of its own: its config comes in as JSON, and what happens goes out, a line each.

Lines: {"step": ...} and {"epoch": ...} while it trains, then one of {"finished": bool}, {"failed": text} and
{"in_use": text}.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Mapping
from typing import Any, TextIO

from filelock import Timeout

from mimstocr.config import make_config
from mimstocr.errors import MimstocrError
from mimstocr.runs import finite
from mimstocr.training.loop import Moment
from mimstocr.workflow import run


class Teller:
    """A watcher that writes lines."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._deaf = False

    def say(self, **message: Any) -> None:
        """One line. When nobody listens any more, this process is asked to stop, saved, and says no more."""
        if self._deaf:
            return
        try:
            self._out.write(json.dumps(finite(message)) + "\n")
            self._out.flush()
        except BrokenPipeError:
            self._deaf = True
            os.kill(os.getpid(), signal.SIGTERM)

    def step(self, moment: Moment) -> None:
        """Where it stands."""
        period = {"period": moment.period, "periods": moment.periods} if moment.period else {}
        where = {"epoch": moment.epoch, "step": moment.step, "steps": moment.steps, **period}
        self.say(step={**where, "losses": moment.losses})

    def epoch(self, row: Mapping[str, Any]) -> None:
        """An epoch's line of the history."""
        self.say(epoch=row)


def main() -> None:
    """Run the config on standard input."""
    # whatever a library prints must not come between the lines
    teller = Teller(os.fdopen(os.dup(1), "w"))
    os.dup2(2, 1)
    try:
        result = run(make_config(json.load(sys.stdin)), resume=True, watcher=teller)
    except MimstocrError as error:
        if isinstance(error.__context__, Timeout):  # it waited for the lock of its folder, which another process has
            teller.say(in_use=str(error))
        else:
            teller.say(failed=str(error))
    except Exception:  # a defect of ours must not stop the other runs of a study
        teller.say(failed=traceback.format_exc())
    else:
        teller.say(finished=result.finished)


if __name__ == "__main__":
    main()
