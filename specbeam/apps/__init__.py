"""What a person touches: the command line, the web page, the playground. May import everything below."""
