#!/bin/sh
# From a folder of recordings to a dataset, through one pipe. Usage: one_line.sh RECORDINGS DATASET
set -eu
choreo discover "$1" | choreo pair -o "$2" > /dev/null
