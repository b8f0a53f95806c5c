"""What holds for all tests: tiny models run on one thread, where a second one costs more than it brings."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything imports torch
