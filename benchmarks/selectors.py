"""Time and peak memory of every selector: `python benchmarks/selectors.py --help`.

The work is in selector_scaling.py. This file has the name of a module of the standard library, and
Python looks into a script's own folder first: whoever imports `selectors` from here, as asyncio
and subprocess do on behalf of every script in this folder, is handed the standard one.
"""

import importlib.util
import sys
import sysconfig
from pathlib import Path

if __name__ == "__main__":
    from selector_scaling import main

    main()
else:
    standard = Path(sysconfig.get_path("stdlib")) / "selectors.py"
    spec = importlib.util.spec_from_file_location(__name__, standard)
    if spec is None or spec.loader is None:
        raise ImportError(f"Python's own selectors module is not at {standard}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules[__name__] = module
