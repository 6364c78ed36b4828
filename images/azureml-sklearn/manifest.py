"""Prints what is in the image: its Python, the Python packages that scripts can import, and Debian's, whose
archives are named on standard input. `laz` compares the first two with conda files."""
import importlib.metadata
import json
import os
import re
import sys

from inferenceserver import __version__

root = sys.argv[1]
packages = {}
for d in importlib.metadata.distributions(path=[os.path.join(root, "usr/lib/python3/dist-packages")]):
    packages[re.sub(r"[-_.]+", "-", d.metadata["Name"]).lower()] = d.version
packages["azureml-inference-server-http"] = __version__ + "+lazurite"
debian = dict(line.strip().removesuffix(".deb").replace("%3a", ":").split("_")[:2] for line in sys.stdin)
json.dump({"python": "%d.%d.%d" % sys.version_info[:3], "packages": packages, "debian": debian}, sys.stdout, indent=1, sort_keys=True)
print()
