"""Molecules, targets and products as research registers them.

`smiles`    reads a structure: syntax, allowed elements, valences; formula, and whether two are the same
`form`      the canonical form by RDKit, where it is installed; it is not needed
`registry`  what may be registered: forms, duplicates, links
"""
