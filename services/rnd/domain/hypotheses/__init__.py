"""What research believes, and how published evidence changes it.

    Insight (an effect with its interval, from clinical use)
       -> verdict.judge        the state of the hypothesis that it is about, by a stated rule
       -> evidence.of_insights pieces of evidence for or against a candidate
            -> ranking.rank    candidates by a weighted score, each rank with what made it
            -> ranking.changes what moved since the ranking before

Everything is a pure function of its arguments, the moment asked about among them: asked about an
earlier date, it answers what was known then.
"""
