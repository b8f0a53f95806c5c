"""How a target is forwarded: everything that knows a loaded model, and no search.

May import `core` and `files`.
"""
