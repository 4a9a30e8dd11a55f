"""What each site contributed: its Shapley value in a result, the quality of its data, what it computed.

    shapley       exact values over sites, shares that are paid, intervals
    explained     what a fit is worth, from sums alone
    evaluation    which coalitions are fitted, by whom, and what of it is told
    quality       ratios with numerator and denominator, and their score
    metered       what is told of each site: its share, or why there is none

A coalition of one site, or the difference of two coalitions, is a single
site's statistics. Masks opened per coalition would hide nothing, so the values
of coalitions come from an evaluator whom all owners accept: it alone holds the
key to which sites seal, and it tells rounded values only. Without the consent
of every owner a job is not valued. The coordinator takes no part in it.
"""
