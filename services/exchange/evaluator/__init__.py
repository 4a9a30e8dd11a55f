"""The evaluator of contributions: a process of an organisation that is neither the exchange nor a site.

    valuation   one job: fits every coalition and measures it on the patients of all sites
    agent       the watch for jobs, the asks, and the rounded values that are told
    main        composition root: keys, topics, connection

It opens every connection itself. What sites seal to its key it opens in memory,
adds up and forgets; what leaves it is the rounded value of each coalition.
"""
