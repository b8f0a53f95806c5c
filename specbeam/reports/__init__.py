"""What finished runs say: a page of each executed notebook, an index of all runs, tables over many records.

May import every room below it, and uses `experiments`, `pictures` and names from `models`: records are read here, no
model is loaded and nothing is executed. Every page is one file that opens from a mail, without a network.

In the order in which to read it:

* `facts`: a run (record plus executed notebook) and what there is to say about it.
* `notebook_page`: an executed notebook as one HTML page, small enough to mail; holds the Jinja environment.
* `outputs`, `formulas`, `terminal_text`: what a page shows of an output of any type.
* `contained`, `allowed_markup`, `scoped_css`: HTML and CSS of others as a part that cannot reach the rest of its page.
* `characters`: those that no HTML file holds as they are.
* `write`: the pages and the index of a folder of runs.
* `templates/`: their HTML, CSS and the index's script.
* `record_speed`, `model_table`, `record_report`: speed-ups, models and agreement over many records, for notebook 08.
* `tracking`: finished runs sent to an experiment tracker.
"""
