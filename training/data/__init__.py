"""Images to train and to evaluate on: in memory, in folders, in tar shards, on the hub."""
