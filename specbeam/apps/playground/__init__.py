"""The playground of the notebook `09_playground`: decode a prompt of your own, watch it, then step through its passes.

May import every room but the other apps.

Reading order:
    settings     a prompt, its method and options
    controls     the input widgets that make such settings
    pass_slider  the slider over the pictures of a decode
    markup       the HTML around the pictures: table of methods, errors, the page without widgets; `style.css`
    panel        `Playground`: all of them in one panel, with decodes that run in a thread
"""
