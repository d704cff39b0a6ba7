"""Adversarial training, robust evaluation and the demo; shipped as `robust_zoo.training`."""
