"""`torchrun -m robust_zoo.training NAME ...`: `robust-zoo train NAME ...` in each of torchrun's processes."""

import sys

from robust_zoo.cli import main

main(["train", *sys.argv[1:]], prog_name="robust-zoo")
