"""The paths of a blend and their weights, as flags give them: 0.7 PATH 0.3 PATH; there is no command here.

`--data-path` of the training and `--input` of the vocabulary are read by `parse_blend`.
"""

import re

_NUMBER = re.compile(r"\d+(\.\d*)?|\.\d+")


def parse_blend(given: str | list[str], flag: str) -> tuple[list[str], list[float] | None]:
    """(paths, weights) of a flag: PATH, or WEIGHT PATH WEIGHT PATH ..., or PATH PATH ...

    Weights are None where there are none: then each path counts by the size of what it holds. One string that begins
    with a weight is taken apart at its blanks, as an environment variable needs. Raises ValueError for anything else.
    """
    words = [given] if isinstance(given, str) else list(given)
    if len(words) == 1 and len(parts := words[0].split()) > 1 and _NUMBER.fullmatch(parts[0]):
        words = parts
    are_numbers = [_NUMBER.fullmatch(word) is not None for word in words]
    if not any(are_numbers):
        paths, weights = words, None
    elif len(words) % 2 == 0 and are_numbers == [True, False] * (len(words) // 2):
        paths, weights = words[1::2], [float(word) for word in words[::2]]
    else:
        raise ValueError(
            f"{flag} {' '.join(words)} is neither paths alone nor a weight before each path; "
            f"give it as in {flag} 0.7 PATH_A 0.3 PATH_B"
        )
    if weights and min(weights) <= 0:
        raise ValueError(f"{flag} {' '.join(words)} has a weight of 0; leave that path out")
    if len(set(paths)) < len(paths):
        raise ValueError(f"{flag} {' '.join(words)} names a path twice; add its weights up")
    return paths, weights if len(paths) > 1 else None
