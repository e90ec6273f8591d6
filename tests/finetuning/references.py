"""Scorers written apart from the code under test, after the official ones."""


def conlleval_counts(gold, predicted):
    """(correct, predicted, gold) chunks, after the rules of conlleval.pl (startOfChunk, endOfChunk)."""

    def ends(before, tag):
        return before[0] != "O" and (tag[0] in "OB" or before[2:] != tag[2:])

    def starts(before, tag):
        return tag[0] != "O" and (tag[0] == "B" or before[0] == "O" or before[2:] != tag[2:])

    correct = found = there = 0
    for gold_tags, predicted_tags in zip(gold, predicted, strict=True):
        inside, last_gold, last_predicted = False, "O", "O"
        for gold_tag, tag in zip([*gold_tags, "O"], [*predicted_tags, "O"], strict=True):
            if inside:
                gold_ends, ours_ends = ends(last_gold, gold_tag), ends(last_predicted, tag)
                if gold_ends and ours_ends:
                    correct, inside = correct + 1, False
                elif gold_ends != ours_ends:
                    inside = False
            gold_starts, ours_starts = starts(last_gold, gold_tag), starts(last_predicted, tag)
            inside = inside or (gold_starts and ours_starts and gold_tag[2:] == tag[2:])
            there, found = there + gold_starts, found + ours_starts
            last_gold, last_predicted = gold_tag, tag
    return correct, found, there


def conlleval_file(path):
    """The same of a file as conlleval reads it: `token<TAB>gold<TAB>predicted`, blank lines between sentences."""
    blocks = path.read_text(encoding="utf-8").strip("\n").split("\n\n")
    rows = [[line.split("\t") for line in block.split("\n")] for block in blocks]
    return conlleval_counts(
        [[row[1] for row in block] for block in rows], [[row[2] for row in block] for block in rows]
    )


def f1(correct, found, there):
    return 2 * correct / (found + there) if found + there else 0.0
