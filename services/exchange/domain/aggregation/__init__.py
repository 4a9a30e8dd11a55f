"""Secure aggregation: the coordinator learns the sum over sites, and no site's own numbers.

    keys          a site's X25519 key of a job, certified by its Ed25519 identity; one secret a peer
    context       what a mask belongs to: job, round, attempt, participants, parameters, cohort, layout
    layout        numbers as fixed point in words of 64 or 128 bits; bounds are checked before masking
    masks         HKDF-SHA256 and AES-256-CTR: a stream of words a pair, and one of the site itself
    site          mask(vector), then opening(signed set): once a round
    coordinator   collect(masked vector), signed_set, accept(opening), total

A round at a site and at the coordinator:

    coordinator  -- Context, parameters -->             every participant
    site         -- MaskedVector (signed) -->           coordinator    pair masks + self-mask + update
    coordinator  -- SignedSet (every signature) -->     every participant
    site         -- Opening (seed of the self-mask) --> coordinator    total = sum - self-masks

Pair masks cancel in the sum over all participants. The self-mask stays until
the site has seen that every participant signed the same context, and it is
opened for one context a round: whatever arrives late for another attempt stays
under a mask that is never opened, so two totals over nearly the same sites
cannot be had. After Bonawitz et al., CCS 2017, without its secret sharing: with
3 to 10 sites a new attempt costs milliseconds.

What it does not hide: all but one of the participants can subtract their own
numbers from the total and learn the last one's, hence at least three sites; and
rounds at nearly equal parameters over different sites come close to a
difference, hence a job's rounds are counted in its budget. Parameters at which
a site has opened once are never opened for another set or cohort.
"""
