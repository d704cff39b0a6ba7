"""The former name of `data.cifar10_sample`, for scripts that were written before the move."""

from robust_zoo.training.data.cifar10_sample import cifar10_sample

__all__ = ["cifar10_sample"]
