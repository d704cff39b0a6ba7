"""One step of a training: attack and update, how they are run, whether their numbers are sound."""
