"""Sentences of what was learnt: of corrective actions, studies, hypotheses, candidates and virtual trials.

By the code that a service tells beside its English sentence; see `sayings`.
"""

from __future__ import annotations


def N_(sentence: str) -> str:
    """Marks a sentence for translation where it is not yet said."""
    return sentence


LEARNT = {
    # What sites' answers say of a corrective action, and what becomes of its limit.
    "NOBODY_FOLLOWED": N_("After %(tag)s left its golden run, nobody was followed up."),
    "NUMBERS_WITHHELD": N_(
        "After %(tag)s left its golden run: numbers of patients are withheld (a group is smaller than "
        "%(smallest)s)."
    ),
    "ANSWERED": N_(
        "After %(tag)s left its golden run, %(answered)s patients answered, %(affected)s of them with a "
        "complaint."
    ),
    "ANSWERED_AT_SOME": N_(
        "After %(tag)s left its golden run, %(answered)s patients answered, %(affected)s of them with a "
        "complaint, at %(told)s of %(sites)s sites; the others withhold theirs."
    ),
    "RISK_COMPARED": N_(
        "Their risk is %(value)s times (%(low)s to %(high)s) that of patients who received sibling lots."
    ),
    "HAD_A_COMPLAINT": N_(
        "%(affected)s of %(answered)s patients who answered (%(share)s %%) had a complaint after %(tag)s "
        "left its golden run."
    ),
    "LIMIT_GOES": N_("The limit goes from %(before)s to %(after)s residual standard deviations."),
    "LIMIT_STAYS_AT": N_("The limit stays at %(limit)s residual standard deviations."),
    # What a study looked at, and what it found.
    "GENOTYPE": N_("genotype %(genotype)s"),
    "OF_LOT": N_("lot %(lot)s"),
    "OF_LOTS": N_("one of the lots %(lots)s"),
    "OF_MANY_LOTS": N_("one of %(lots)s lots (%(digest)s)"),
    "BAND": N_("%(tag)s from %(low)s and below %(high)s %(unit)s"),
    "BAND_FROM": N_("%(tag)s from %(low)s %(unit)s"),
    "BAND_BELOW": N_("%(tag)s below %(high)s %(unit)s"),
    "BAND_OPEN": N_("any %(tag)s in %(unit)s"),
    "LAB_CHANGE": N_("change of %(lab)s in %(unit)s within %(days)s days"),
    "ANY_EVENT": N_("any adverse event within %(days)s days"),
    "EVENTS": N_("%(terms)s within %(days)s days"),
    "FEW": N_("few"),
    "NO_ESTIMATE_OF": N_(
        "In %(members)s patients of %(sites)s sites, %(outcome)s: the data give no estimate for %(exposure)s."
    ),
    "STUDY_FOUND": N_(
        "In %(members)s patients of %(sites)s sites, %(outcome)s, by %(exposure)s: %(effect)s."
    ),
    "ONLY_SEEN": N_(
        "In %(members)s patients of %(sites)s sites, %(outcome)s, by %(exposure)s: %(effect)s was seen."
    ),
    "EFFECT": N_("%(scale)s %(value)s"),
    "EFFECT_P": N_("%(scale)s %(value)s, p = %(p)s"),
    "EFFECT_WITHIN": N_("%(scale)s %(value)s (95 %% interval %(low)s to %(high)s)"),
    "EFFECT_WITHIN_P": N_("%(scale)s %(value)s (95 %% interval %(low)s to %(high)s), p = %(p)s"),
    "SCALE_OF": N_("%(term)s, %(scale)s"),
    "FEW_LOTS": N_("It is only described, for the lots are fewer than %(fewest)s inside or outside."),
    "LOTS_NOT_COUNTED": N_("It is only described, for the lots were not counted (clusters.exposure)."),
    "NOISE": N_(
        "Every sum has noise of standard deviation %(deviation)s for differential privacy: epsilon "
        "%(epsilon)s, delta %(delta)s (%(accountant)s)."
    ),
    # What a study waits for, or why a job of it ended.
    "WAITS_FOR_OWNERS": N_("It waits for the owners of %(sites)s."),
    "WAITS_FOR_AGENTS": N_("It waits for the agents of %(sites)s."),
    "WAITS_FOR_JOB": N_("It waits for its next job."),
    "QUERIES_SPENT": N_("The queries of one analyst on %(dataset)s are spent: its owner may grant more."),
    "ROUNDS_SPENT": N_("The rounds of one analyst on %(dataset)s are spent: its owner may grant more."),
    "EPSILON_SPENT": N_(
        "It asks for more than the epsilon that is left to one analyst on %(dataset)s: ask for a smaller "
        "one, or its owner for more."
    ),
    "TIME_OVER": N_("Its time was over."),
    "FROZE_NO_COHORT": N_("%(sites)s froze no cohort in time; the next job waits for it."),
    "NOT_CONFIRMED_IN_TIME": N_(
        "The sites did not confirm their cohorts within one another's time; the next job follows."
    ),
    "NO_ANSWER_IN_ROUNDS": N_("No answer in %(rounds)s rounds; ask for more, or for a simpler model."),
    "COHORT_NOT_CONFIRMED": N_("%(sites)s did not confirm that the cohort is still the frozen one."),
    "TOO_FEW_LEFT": N_(
        "%(sites)s dropped out and %(left)s sites are left; a sum needs %(least)s: the next job waits for "
        "more."
    ),
    "DROPPED_AFTER_SUMS": N_(
        "%(sites)s dropped out after sums had been opened: the same sums over the others would show its "
        "numbers; the next job waits until it is back."
    ),
    "DROPPED_OUT": N_("%(sites)s dropped out; the next job waits until it is back."),
    "COORDINATOR_RESTARTED": N_(
        "The coordinator was restarted while the job ran; the next job has new keys."
    ),
    "COORDINATOR_FAULT": N_("The computation failed at the coordinator; its log says why."),
    # Why a finding waits, and what a hypothesis claims and rests on.
    "NO_RULE_THEN": N_("No rule could take it up when it came; take it up, or decline it."),
    "PRODUCT_NOT_REGISTERED": N_("The product %(product)s is not registered here."),
    "NO_INTERVAL": N_("Its first effect has no estimate with an interval."),
    "NO_INTERVAL_FOR": N_("Its first effect has no estimate with an interval (%(word)s)."),
    "NOT_OF_EXPOSURE": N_("Its first effect is %(term)s as %(scale)s, which is no effect of the exposure."),
    "FIT_NOT_CONVERGED": N_("Its fit did not converge."),
    "LESS_OFTEN_WITH": N_("%(exposure)s goes less often with %(outcome)s"),
    "TO_A_LESSER_EXTENT_WITH": N_("%(exposure)s goes to a lesser extent with %(outcome)s"),
    "SUPPORTED_BELOW": N_("Supported: the interval is wholly on the expected side (below no effect)."),
    "SUPPORTED_ABOVE": N_("Supported: the interval is wholly on the expected side (above no effect)."),
    "CONTRADICTED": N_("Contradicted: the interval is wholly short of no effect."),
    "CONTRADICTED_LEAST": N_("Contradicted: the interval is wholly short of the least effect."),
    "HOLDS_BOTH": N_("Needs data: the interval holds both an effect that matters and none."),
    "NO_INSIGHT": N_("Needs data: no finding yet."),
    "NO_INSIGHT_COUNTS": N_("Needs data: no finding counts yet."),
    "NO_FINDING_COUNTS": N_("No finding counts."),
    "ESTIMATED_IN": N_("%(value)s (%(low)s to %(high)s) in %(patients)s patients."),
    "MIGHT_DECIDE": N_("About %(patients)s patients in all might decide."),
    "DOES_NOT_COUNT_REPLACED": N_("%(insight)s does not count: replaced by %(by)s of the same study."),
    "DOES_NOT_COUNT_PATIENTS": N_("%(insight)s does not count: %(n)s patients, fewer than %(least)s."),
    "DOES_NOT_COUNT_SITES": N_("%(insight)s does not count: %(n)s sites, fewer than %(least)s."),
    "HYPOTHESIS_RULE": N_(
        "Rule: supported where the 95 %% interval is wholly on the expected side and the estimate reaches "
        "the least effect; contradicted where the interval is wholly short of the least effect; needs data "
        "where neither holds."
    ),
    # How candidates are scored.
    "SCORES_ORDER": N_(
        "The score orders candidates by the evidence listed; it is not a measure of confidence."
    ),
    "WEIGHT": N_("Weight of %(source)s: %(weight)s."),
    "WEIGHT_OF_OTHERS": N_("Other sources have weight 1."),
    "HALF_LIFE": N_("Half-life of %(source)s: %(days)s days."),
    "KEPT_OF_CONTRADICTED": N_("Contradicted claims keep %(kept)s of their evidence."),
    # What a virtual trial advises, and by which rule.
    "TRIAL_GO": N_("It advises to go on."),
    "TRIAL_NO_GO": N_("It advises not to go on."),
    "SUCCESS_SHOWN": N_(
        "Probability of success %(success)s (%(low)s to %(high)s, %(runs)s runs), at least %(least)s."
    ),
    "SUCCESS_NOT_SHOWN": N_(
        "Probability of success %(success)s (%(low)s to %(high)s, %(runs)s runs), not shown to reach "
        "%(least)s."
    ),
    "DIFFERENCE_ENOUGH": N_("Mean difference %(difference)s points, at least %(least)s."),
    "DIFFERENCE_BELOW": N_("Mean difference %(difference)s points, below %(least)s."),
    "MORE_RUNS_MIGHT_DECIDE": N_("The interval holds the bound: more replicates could decide either way."),
    "TRIAL_RULE": N_(
        "Rule: go if the lower end of the 95 %% interval of the probability of success is at least "
        "%(probability)s and the mean difference is at least %(difference)s points."
    ),
    "TIME_IN_RANGE": N_(
        "Time in range %(control)s %% by the fixed dose, %(test)s %% by genotype (INR %(hour)s h after the "
        "dose)."
    ),
    "TRIAL_POWER": N_("Power at the published estimates: %(power)s."),
    # What a parameter set has to be looked at for.
    "CAPA_CHANGED_LIMIT": N_(
        "Corrective action %(capa)s changed the limit of %(tag)s from %(before)s to %(after)s residual "
        "standard deviations."
    ),
    "CAPA_LEFT_LIMIT": N_(
        "Corrective action %(capa)s left the limit of %(tag)s at %(limit)s residual standard deviations."
    ),
    "LOOK_AT_RANGES": N_("Look at its ranges, and draft a new version where they do not fit."),
}
#: Words that stand in them.
LEARNT_WORDS = {
    "scale.log-odds": N_("log-odds"),
    "scale.log-rate": N_("log-rate"),
    "scale.log-hazard": N_("log-hazard"),
    "scale.difference": N_("difference"),
    "scale.estimate": N_("estimate"),
    "NOT_ESTIMABLE": N_("it cannot be estimated"),
}
