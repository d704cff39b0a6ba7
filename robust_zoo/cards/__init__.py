"""A checkpoint in words: its model card, the index of cards, the tables of README. No torch."""
