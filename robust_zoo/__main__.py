"""python -m robust_zoo"""

from robust_zoo.cli import main

main(prog_name="robust-zoo")
