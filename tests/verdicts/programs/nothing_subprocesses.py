"""A script that starts commands one after the other, and reads what they print."""

# /// verdict
# kind = "nothing"
# ///

import subprocess

for number in range(20):
    subprocess.run(["/bin/echo", str(number)], check=True, capture_output=True)
