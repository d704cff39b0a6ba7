"""The networks: builders of timm, and of what timm lacks."""
