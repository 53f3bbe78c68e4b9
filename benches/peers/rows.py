"""The first texts of the table, as the prompt has them."""

import csv


def prompts(path, count, prompt):
    with open(prompt, encoding="utf-8") as file:
        text = file.read()
    with open(path, newline="", encoding="utf-8") as file:
        table = csv.DictReader(file)
        return [text.replace("{{ review }}", row["review"]) for _, row in zip(range(count), table, strict=False)]
