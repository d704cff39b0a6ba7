"""Charts as SVG text, for pages and for cards: the same numbers give the same text."""
