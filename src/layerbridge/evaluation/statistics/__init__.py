"""What accuracies and their differences can tell, and how precisely.

    proportions   one run: Wilson's interval, and the mean over languages
    seeds         several runs of one method
    paired        one method against another in one language; Holm's correction
    averages      one method against another on the mean over languages
    resampling    the bootstrap behind it

Knows numbers and row keys, not results or files. docs/statistics.md says what each interval covers,
with its source and its coverage in simulation.
"""
