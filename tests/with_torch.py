"""torch, transformers and the float64 reference: a script that imports this is skipped where one of them is not there."""
import os
import sys

from harness import SHARED

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
try:
    import torch
    import transformers
except ImportError as e:
    print(f"skipped: {e}: make transformers")
    sys.exit(77)
if not (SHARED / "reference/reference.py").exists():
    print(f"skipped: {SHARED}/reference/reference.py is not there")
    sys.exit(77)
sys.path.insert(0, str(SHARED / "reference"))
import reference

__all__ = ["reference", "torch", "transformers"]
