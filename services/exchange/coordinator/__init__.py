"""The coordinator's part of a job: which agents are connected, what they said, and the rounds.

    hub        the standing calls of agents; each opened its own
    room       one job in memory: cohorts, masked vectors and openings, as they come
    desk       the evaluator of contributions: its asks and what sites seal to it pass through
    conductor  freezes, asks round after round, and ends with an answer or a reason

A job lives in one process. Nothing of a round is stored; a masked vector is
uniform noise until every participant has opened, and then only the sum shows.
"""
