"""How a model is transferred: linear probes, fine-tuning, and the paper's own procedure."""
