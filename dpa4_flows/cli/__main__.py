"""``python -m dpa4_flows.cli``: the `dpa4` command without an installed script."""

from __future__ import annotations

from dpa4_flows.cli.app import main

if __name__ == "__main__":
    main()
