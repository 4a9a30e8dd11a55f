"""Disclosure control: what a site checks of itself before anything leaves, masked or not.

    limits        the numbers of the rules, by profile: protected, or public data for reference tests
    cells         smallest cells, subsets, models and levels; contributors of a coefficient
    differencing  a cohort that differs from earlier ones by a few patients
    budget        queries and rounds of an analyst on a dataset
    accounting    what noise costs: zCDP, Renyi and privacy loss distribution
    noise         noise on a sum, in shares of the sites

Every check is a pure function that returns breaches, each naming its rule; an
empty list lets the job pass. All breaches are found at once, so that a job is
mended in one go. Defaults follow DataSHIELD (package dsBase: nfilter.tab,
nfilter.subset, nfilter.glm, nfilter.string, nfilter.levels).
"""
