"""From a molecule to a lot, a patient's run, a finding and the next hypothesis.

`links`: what each event joins; `walk`: which events belong to the lineage of a thing.
"""
