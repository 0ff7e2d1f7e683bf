"""What accuracies and their differences can tell, and how precisely.

    proportions   one run in one language: Wilson's interval
    seeds         one or more runs of one method, and the mean over languages
    paired        one method against another in one language; Holm's correction
    averages      one method against another on the mean over languages
    resampling    the bootstrap behind it

Knows numbers and row keys, not results or files. docs/statistics.md says what each interval covers,
with its source and its coverage in simulation.
"""
