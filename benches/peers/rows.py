"""The first texts of the table, as the prompt has them."""

import csv


def prompts(path, count, text="Is this review positive, negative or mixed? {{ review }}"):
    with open(path, newline="", encoding="utf-8") as file:
        table = csv.DictReader(file)
        return [text.replace("{{ review }}", row["review"]) for _, row in zip(range(count), table, strict=False)]
