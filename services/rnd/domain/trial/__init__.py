"""Virtual trials: patients drawn, dosed and followed by a model, and the designs of real ones.

`pharmacokinetics`  one compartment, by mouth: the closed form for many subjects.
`warfarin`          INR under daily warfarin, by Xia 2024; `cohort` draws its patients.
`dosing`            fixed and genotype-guided doses; doses as the released lots really hold them.
`endpoint`          percentage of time with INR in range, of the model or from visits (Rosendaal 1993).
`virtual`           a trial many times over: power, probability of success, go or no-go.
`sequential`        Pocock, O'Brien-Fleming, Wang-Tsiatis, Lan-DeMets: boundaries and sizes.
`sizes`             fixed sample sizes.
`boin`              dose finding by BOIN: boundaries, the next dose, the dose selected.
`record`            a run as a record with an id made of its content, to be run again and compared.
`distributions`     normal and Student's t, without a statistics library.

Everything is a pure function of what it is given: a seed, never a clock.
"""
