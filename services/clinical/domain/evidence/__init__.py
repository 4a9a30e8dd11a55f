"""Evidence about a lot, from patients who received it and from comparators at the same site.

    Followed (a patient, of one kind of outcome)
       -> cohort.table      exposed beside comparators, by age band and sex; time by person_time
       -> mantel_haenszel.sums      what adds over strata and sites
            -> risk_ratio, rate_difference, chi_square      at the site, or of summed sites
            -> sequential.look      is the boundary reached at a planned look?
            -> release.release      what others may see of it

`person_time`   Time belongs to the latest pack begun whose supply lasts, with carry-over and a risk
                window; the parts add up exactly. Carry-over as in CMA7 of AdhereR.
`cohort`,       Comparators: sibling lots of the same product, site, period and follow-up. Prompted and
`tables`        routine outcomes never in one table. Age bands by ICH E11 and E7.
`study`         What a run compares at the site, and sums over groups; shared by both kinds.
`prompted`      Answers to a question as rows of a cohort: the time observed, the lot of a complaint.
`routine`       What the hospital reports by itself as rows of a cohort, up to the hazard's evaluation.
`mantel_haenszel`  R, S, P of the risk ratio; D, W, Q of the rate difference; V of the test. Nothing is
                added to empty cells. Mantel and Haenszel 1959; Greenland and Robins 1985.
`sequential`    Looks at planned information only, a fixed maximum, one-sided. Spending after O'Brien and
                Fleming by Lan and DeMets 1983; recursion by Armitage, McPherson and Rowe 1969, as in
                Jennison and Turnbull 2000, chapter 19.
`release`       A number is told if it is the same as, or at least 10 away from, all told before in its
                place, 0 included; the moment of telling never depends on cases that are not yet told.

Everything is a pure function of what it is given. A site may show its own
people all of it at once; others see what `release` gives.

The sequential test takes the score as normally distributed. In simulations of
lots without harm, alpha 2.5 %, about 3 % alarmed where the maximum information
was 15 and one patient in five exposed; at 30 no excess was seen. Designs by
`sized` found 89 to 92 % of planted effects where 90 % was asked.
"""
