"""Two-sample tests of injected against real galaxies: training sets, networks, verdicts.

Packages in the order of the data: `survey`, `planning`, `trainingset`, `cutting`; then `training` and
`referees`; then `twosample`, `controls`, `retraining`, `evaluation`, `report`.  `mock` makes a survey to
practise on, `stampspec` says what stamps are.  The programs are `create_training`, `measure`, `cnn`,
`evaluate`, `mosaic` and `mock`; from Python, the functions of `interface` do the same::

    import obiwan.dplearn as dp

    result = dp.run_evaluation("training", "cnn/best.keras")

Importing this package loads nothing heavy: no TensorFlow, GalSim or matplotlib, nor NumPy.
"""

import sys as _sys
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

if _TYPE_CHECKING:
    from obiwan.dplearn.interface import (
        make_mock_survey,
        make_training_set,
        open_training_set,
        run_evaluation,
        train_network,
    )

__version__ = "0.1.0.dev0"
__all__ = [
    "make_mock_survey",
    "make_training_set",
    "open_training_set",
    "run_evaluation",
    "train_network",
]


def __getattr__(name: str) -> _Any:
    """Function of `interface`, which is imported only when one of them is asked for."""
    if name not in __all__:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    from importlib import import_module

    return getattr(import_module(f"{__name__}.interface"), name)


def __dir__() -> list[str]:
    """Names of the package, the functions of `interface` among them."""
    return sorted({*globals(), *__all__})


def _end_at_ctrl_c(program: str) -> None:
    """End this process in one line, with status 130, when Ctrl-C comes while modules are imported.

    From there on `obiwan.dplearn.running.interruptions` has it.  Where Ctrl-C is ignored, as under ``nohup``,
    it stays so, and after the program's end it is.
    """
    import atexit
    import os
    import signal

    def end(*_: object) -> None:
        try:
            os.write(2, f"{program}: interrupted; start it again\n".encode())
        finally:
            os._exit(130)

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, end)
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)


if _sys.argv[:1] == ["-m"]:  # `python -m` imports this before the program, with all that it needs
    for _word in _sys.orig_argv:
        if _word.startswith(__name__):
            _end_at_ctrl_c(_word.rpartition(".")[2])
