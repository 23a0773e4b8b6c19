#!/bin/sh
# Train on a machine that one logs in to: send the motions, train there, take the run back.
# Usage: ssh-train.sh HOST MOTIONS RUN [PROCESSES]
# Started again it goes on where the run was stopped, on another HOST too: the run folder is sent along.
# ssh and rsync must need no password, and choreo must be installed there (pip install 'choreo[train]').
set -eu
host=$1
motions=$2
run=$3
processes=${4:-1}
config=${CONFIG:-examples/generation/tiny-100.yaml}
there=${THERE:-choreo-work}

mkdir -p "$run"
ssh "$host" mkdir -p "$there/motions" "$there/run"
rsync -rt "$motions/" "$host:$there/motions/"
rsync -t "$config" "$host:$there/config.yaml"
rsync -rt --exclude .choreo.lock "$run/" "$host:$there/run/"

# A closed connection is SIGHUP there: a checkpoint is written, and the next start goes on from it.
code=0
ssh "$host" torchrun --standalone --nproc-per-node "$processes" -m choreo_cli train flow "$there/motions" \
    --config "$there/config.yaml" -o "$there/run" --wait 60 --quiet > /dev/null || code=$?

rsync -rt --exclude .choreo.lock --exclude run.json "$host:$there/run/" "$run/"
if [ "$code" -eq 0 ]; then
    rsync -t "$host:$there/run/run.json" "$run/run.json"
fi
exit "$code"
