"""Robust accuracy one can trust: standard attacks, a ledger of evidence, and checks that say when a number is void."""
