"""A notebook as an experiment: parameters, runs, sweeps and the records that they leave.

May import `pictures`, `models` and the rooms below them. Read in this order:

* `parameters`: the tagged cell, the YAML files and the overrides that replace its values.
* `runner`: executes one notebook and accepts the run or not. `jupyter_kernels` is the process that runs its cells.
* `records`: the JSON file of a run. `record_schema` (.py and .json) is its format, `provenance` says where the run
  happened, `record_models` what decoded, and `record_table` makes a folder of records a table.
* `notebook`: what cells of several notebooks share: tables, timing in turns, a reference decode.
* `sweep`: a grid of runs, here or, with `cluster`, on Dask workers.
"""
