"""Training a draft for a target: the answers to learn from, the training, what is held out to measure it.

May import `pictures`, `models` and what is below.
"""
