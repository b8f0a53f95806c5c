"""The four decoders and the drop-in: transformers' options in, `Decoded` out.

May import `drafts`, `engines`, `core` and `files`.
"""
