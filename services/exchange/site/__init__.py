"""The agent of a site: one process a hospital, which opens every connection itself.

    source   the cohort's columns, from the hospital's own clinical service
    seen     studies and the sites' keys, as their topics tell them: nobody has to believe the coordinator
    session  one job: freeze, begin, mask, open, confirm
    valuing  what the evaluator of contributions is answered, where every owner agreed
    agent    the watch for tasks, and what is sent back
    stored   the cohorts that sums were opened over; the job's keys are in memory alone

What leaves the process: public keys, a name of the cohort, refusals, masked
vectors, the opening of a mask that all participants signed, vectors sealed to
the evaluator, seconds and quality. Columns are held in memory while a job runs, and forgotten with it.
"""
