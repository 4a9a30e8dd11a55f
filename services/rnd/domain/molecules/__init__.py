"""The structure of a molecule as research reads it.

`smiles`    reads a structure: syntax, allowed elements, valences; formula, and whether two are the same
"""
