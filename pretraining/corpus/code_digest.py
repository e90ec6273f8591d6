"""What tells one release of the corpus stages from another; there is no command here.

Every manifest has it as "code"; work that other code began is not gone on with. It is that of the files at the moment
when a stage starts: under Slurm, when its tasks are submitted.
"""

import hashlib
import json
from pathlib import Path


def digest_of_code(folder: Path = Path(__file__).parent) -> str:
    """SHA-256 over the names and the content of a folder's Python files, hexadecimal."""
    files = [[path.name, hashlib.sha256(path.read_bytes()).hexdigest()] for path in sorted(folder.glob("*.py"))]
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()
