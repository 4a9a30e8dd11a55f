"""What the exchange, its sites and the evaluator agree on in a valuation."""

#: For what a job's ticket is sealed to the evaluator.
TICKET = b"pharmaloop valuation ticket 1"
#: For what an ask of the evaluator is sealed to a site.
ASK = b"pharmaloop valuation ask 1"
#: Name of the coordinator, which no evaluator may bear.
COORDINATOR = "exchange"
#: Digits to which values of coalitions are told: shares need the third, and a tie is below the fourth.
DIGITS = 4
