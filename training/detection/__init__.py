"""Objects in images: what stands in them, how well it was found, backbones of detectors."""
