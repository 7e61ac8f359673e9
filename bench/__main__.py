"""`make bench`: measure, side by side in one run, and print ratios.

python -m bench [NAME ...]     NAME: path crowd leave relay gains
"""

from __future__ import annotations

import asyncio
import sys

from rich.console import Console

from bench import crowd, gains, leave, path, relay

BENCHES = {
    "path": path.run,
    "crowd": crowd.run,
    "leave": leave.run,
    "relay": relay.run,
    "gains": gains.run,
}


def main() -> None:
    """Run the named benches, or all of them."""
    console = Console()
    for name in sys.argv[1:] or BENCHES:
        if name not in BENCHES:
            sys.exit(__doc__)
        asyncio.run(BENCHES[name](console))


if __name__ == "__main__":
    main()
