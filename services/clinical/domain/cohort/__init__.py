"""The cohort of a study as one site builds it: `definition` who belongs, `members` what is known of each,
`columns` the numbers that the hospital's own agent computes with."""
