"""What proposes tokens: drafts that look things up, a smaller model, a trained layer over the target's states.

May import `engines`, `core` and `files`.
"""
