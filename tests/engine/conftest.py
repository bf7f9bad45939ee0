import os
import sys
from pathlib import Path

STEPS = str(Path(__file__).parents[1] / "core")
sys.path.insert(0, STEPS)  # `steps` must be importable here, and in the processes of the engine
os.environ["PYTHONPATH"] = os.pathsep.join([STEPS, os.environ.get("PYTHONPATH", "")])
