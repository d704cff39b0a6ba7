"""The zoo as a static site: pages made of rows and results alone, for a browser without a network."""
