"""Pictures of decodes: trees, strips and timelines as SVG from a trace, charts from plain numbers with matplotlib.

`from specbeam.pictures import …` gives every function that returns a picture. A name is imported when it is first
used, so that SVG needs no matplotlib; nothing here imports PyTorch. A chart's title states what its numbers show.

May import the traces of `decoding` and the byte tables of `drafts`; never a model, a record or a report.

Reading order:
    palette          colours, signs and borders, as plain data
    token_text       the text of a token, safe to print
    history          what became of every node of a trace, round by round
    drawing          `Picture`: markup, legend, saving; `style.css` is its style sheet
    strip            a text, token by token
    tree_layout      the places of a tree's boxes
    trees            the beam tree, and its frames for a slider
    timeline         the cost and the yield of each target pass
    progress         several decodes, side by side after as many passes
    plot_style       what charts share: figures that show themselves, panels, legends
    figure_text      the words of a chart: no mathematics, glyphs that exist, within their place
    plot_decodes     charts of single decodes: passes, histograms, tree masks
    plot_speed       charts of a benchmark
    plot_peers       charts of other libraries beside ours
    plot_drafts      charts of drafts: agreement, training, cost, prediction
    plot_comparison  charts of quality against speed
    plot_records     charts over many records
    plot_wide        charts of wide beams: speed and cache
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
