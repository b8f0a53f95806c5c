"""A notebook as an experiment: parameters, runs, sweeps, clusters, records.

May import `evaluation` and what is below.
"""
