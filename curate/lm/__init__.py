"""Language models: loading them, the loss of an answer, greedy answers."""

import os

# OpenMP's threads spin while they wait; on a machine with other work that makes small models 30 times slower. PyTorch
# reads this once, when it is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
