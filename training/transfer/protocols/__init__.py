"""How a model is transferred: linear probes, fine-tuning, the paper's own procedure, detectors."""
