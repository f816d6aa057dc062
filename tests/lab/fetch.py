"""FETCHCOMMAND of the lab's clients: `fetch.py URI FILE`."""

import shutil
import sys
import urllib.request

with urllib.request.urlopen(sys.argv[1], timeout=30) as source, open(sys.argv[2], "wb") as target:
    shutil.copyfileobj(source, target)
