"""Exact statistics over several sites: what the pooled rows would give, from sums alone.

    protocol    what site and coordinator say to each other; `Model`, the one interface
    models      MODELS, by name; `model_of` a specification
    reading     specifications: canonical form, what a job must keep to (`Protection`, PUBLIC)
    columns     a site's columns, checked against what was agreed

    counts, moments, histogram, quantiles     `describe`
    linear, logistic, poisson                 `glm`, by `fitted`, `newton`, `design`, `clusters`
    cox (strata are sites), cox_grid          `cox`, by `fitted`, `grid`
    kaplan_meier, log_rank                    `survival`, by `grid`
    mantel_haenszel                           `mantel_haenszel`

Every number that leaves a site is part of a vector that is summed over sites
before anybody sees it. All ranges, levels, bins and times are agreed in the
specification, so each element has a bound that is known before the data are
looked at: a secure sum in fixed point can neither overflow nor lose more digits
than `rows_at_most` and the ranges cost. State both close to the truth.

What the coordinator does see are sums over all sites, of small cells too: it
joins or withholds those before a result is told, and does not hand on totals.

Everything is a pure function; refusals are `errors.Malformed` and `errors.Unfit`.
"""
