"""The programs that a person uses: the command line, the web page, the playground in a notebook.

May import every room below. The apps know nothing of each other, except that the command line starts the web page.

* `cli/`: the command `specbeam`.
* `demo/`: the web page, on Gradio.
* `playground/`: widgets for JupyterLab.
"""
