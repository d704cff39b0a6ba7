"""Pictures for people: one style, and what is drawn in it by several verbs."""
