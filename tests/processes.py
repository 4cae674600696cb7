"""What processes of their own are started with by tests: this package, and one thread for each."""

import os
from pathlib import Path

import obiwan.dplearn

ENV = {
    **os.environ,
    "PYTHONPATH": str(Path(obiwan.dplearn.__file__).parents[2]),
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "OMP_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
}
