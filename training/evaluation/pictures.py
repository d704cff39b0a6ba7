"""The former name of `evaluation.attack_images`, for scripts that were written before the move."""

from robust_zoo.training.evaluation.attack_images import load

__all__ = ["load"]
