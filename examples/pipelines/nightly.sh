#!/bin/sh
# Pair whatever was recorded today; safe to start twice, safe to interrupt, silent when nothing is new.
# Usage: nightly.sh RECORDINGS DATASET
set -eu
recordings=$1
dataset=$2
choreo discover -q "$recordings" -o "$recordings.inventory.json" || [ $? -eq 3 ]
choreo pair -q "$recordings.inventory.json" --todo "$dataset.todo.csv" -o "$dataset" > /dev/null || [ $? -eq 3 ]
choreo check -q "$dataset"
