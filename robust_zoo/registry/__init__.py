"""What the zoo knows: the rows of checkpoints.toml, and how they are looked up. No torch."""
