"""Executed notebooks and records as HTML pages.

May import `experiments` and what is below.
"""
