"""Publishing on the Hugging Face hub: the folder, its rehearsal by timm alone, one commit."""
