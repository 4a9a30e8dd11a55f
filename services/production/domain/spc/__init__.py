"""Statistical process control: the rules of a chart, CUSUM, EWMA, and what their alarms cost.

A value is standardised when the process in control gives it mean 0 and
standard deviation 1. Every chart here looks back only, so what is said of a
sample does not change when later ones come.
"""
