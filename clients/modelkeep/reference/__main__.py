"""``python -m modelkeep.reference [PROJECT_FOLDER]``: write what is made from the table."""

import sys
from pathlib import Path

from modelkeep.reference import made


def main() -> None:
    """Write every file."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    for name, content in made.files().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()
