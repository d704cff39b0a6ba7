"""Fine-tuning on images of one's own, with the model kept."""
