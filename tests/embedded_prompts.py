"""Twelve kinds of prompt for the embedded model."""

ARTICLE = " ".join(
    f"On day {day} the harbour commission heard {what}, and the mayor of the old port promised an answer in spring."
    for day, what in enumerate(
        ["the fishermen", "two engineers", "a school class", "the ferry company", "a painter", "the fishermen again"]
        * 2,
        1,
    )
)


PROMPTS = [
    "The future of AI is",
    "Explain the concept of speculative decoding",
    "Write a Python function that reverses a linked list.",
    "List five fruits, one a line.",
    "Once upon a time in a digital world,",
    f"Summarise the following article in one sentence.\n\n{ARTICLE}",
    "日本の首都はどこですか。",
    "Good morning",
    "What is 17 times 23? Show your work.",
    "Translate to French: The cat sleeps on the warm stone.",
    "repeat after me: a b c a b c a b c a b c",
    "Give me JSON with the keys name, age and city.",
]
