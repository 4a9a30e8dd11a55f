"""The process twin of a line: fermentation model, scale-up, prediction, advice, a live run.

`adapt` brings a released parameter set to a line, `advise` proposes set-points,
`follow` runs beside a lot, `recalibrate` learns from what came out. Everything
that needs SciPy or scikit-learn imports it when it is called: a service that
waits for work pays for neither.
"""
