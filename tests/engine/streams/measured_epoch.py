"""Read an epoch of a lake of four layers in so many bytes, or only open it; print the peak.

python measured_epoch.py LAKE [BYTES]
"""

import sys
from pathlib import Path

from layerlake.engine.streams.example_stream import ExampleStream
from layerlake.store.lake import open_lake

lake = open_lake(sys.argv[1])
spaces = [lake.space("c", "base", layer) for layer in range(4)]
stream = ExampleStream(spaces, batch=16, memory=int(sys.argv[2]) if sys.argv[2:] else "1GiB")
if sys.argv[2:]:
    for batch in stream.epoch(0):
        assert batch.values["base", "resid", 3].shape[1] == 256
status = Path("/proc/self/status").read_text()
print(int(status.partition("VmHWM:")[2].split()[0]) * 1024)
