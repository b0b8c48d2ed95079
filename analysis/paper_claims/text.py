"""Tables in Markdown."""


def cell(text):
    return text.replace("|", "\\|")


def markdown(head, rows):
    return "\n".join("| " + " | ".join(map(cell, row)) + " |" for row in (head, ["---"] * len(head), *rows))
