"""From a hub id, a folder or nothing at all to a pair that every decoder takes.

May import `decoding` and what is below.
"""
