"""The cases: one file for each group of the contract."""
