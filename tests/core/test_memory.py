"""Memory that was freed goes back to the system, as the kernel counts it."""

import subprocess
import sys

import pytest

PROGRAM = """
import torch
from cohobate.core.memory import return_freed_memory
from cohobate.models.torch_setup import keep_freed_memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 >> 20

keep_freed_memory()
before = resident()
blocks = [torch.ones(1 << 18) for _ in range(600)]  # of 1 MB each
end = torch.ones(1 << 18)  # lies behind them, so that the heap cannot shrink by itself
blocks.clear()
kept = resident() - before
return_freed_memory()
print(kept, resident() - before)
"""


@pytest.mark.serves
def test_what_malloc_keeps_for_the_next_use_is_returned() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    kept, left = map(int, done.stdout.split())
    assert kept > 550 and left < 60
