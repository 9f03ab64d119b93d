"""The report of what the tests have run, which fails below 100 %: ``python tests/coverage_report.py``.

Where no Redis server could be started, the Redis store is left out of it, and that is said.
"""

import shutil
import subprocess
import sys

SERVERS = ("redis-server", "valkey-server")

if __name__ == "__main__":
    command = [sys.executable, "-m", "coverage", "report"]
    if not any(map(shutil.which, SERVERS)):
        print(f"Without {' or '.join(SERVERS)} on PATH the Redis store is not tested, and left out of this report.")
        command.append("--omit=*/stores/_redis.py")
    sys.exit(subprocess.run(command, check=False).returncode)
