"""Speed against transformers, all sides in one process and in turns. Read cases, runners, measure, report."""
