"""What a decoder is worth: data sets, metrics, comparisons with intervals, agreement, benchmarks.

May import `training` and what is below.
"""
