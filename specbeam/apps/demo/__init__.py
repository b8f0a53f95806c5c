"""The web page on which visitors watch a pair decode: `specbeam demo`.

May import every room below `apps`, and nothing of the playground. Gradio is imported by `page` and `server` only.

In the order in which to read it:

* `settings`: what a visitor may ask for, checked against the page's limits, and as a link.
* `jobs`: one model shared by all visitors; a queue of decodes that can be watched and stopped.
* `actions`: run, race, step and stop, as updates for named parts of the page.
* `markup`: the HTML of those parts, and the record of a run; its templates, CSS and scripts are in `templates/`.
* `page`: Gradio's components, and which action answers which button.
* `gate`: the middleware that answers requests for the page only, on Starlette, which comes with Gradio.
* `address`: hosts, ports, and the proxies that are not to stand between.
* `server`: `launch`.
"""
