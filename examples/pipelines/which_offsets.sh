#!/bin/sh
# Which offset was used for each session, and may I trust it? Usage: which_offsets.sh DATASET
set -eu
choreo inspect "$1/pairs.json" --lines |
  python3 -c 'import json, sys
for line in sys.stdin:
    p = json.loads(line)
    print(p["pair_id"], p["method"], p["offset_us"] / 1e6, p["identifiable"], *p["reasons"], sep="\t")'
