"""Pictures of traces and records, as SVG and matplotlib figures. Models are never read here.

May import what is below, types only.
"""
