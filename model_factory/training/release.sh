#!/bin/sh
# The runs behind a release: the weights that ship, and one run with each measuring network left out. The samples are
# framed once and shared.
# usage: release.sh DATA RUNS [AT-ONCE]     then, where onnxscript is: model-factory export, quantize, evaluate, bundle
set -eu
data=$1 runs=$2 at_once=${3:-1}
mkdir -p "$runs"
one='exec python3 -m model_factory.cli train station "$1" --bank "$2/bank.pt" --out "$2/$3" --no-export $4 >"$2/$3.log" 2>&1'
sh -c "$one" sh "$data" "$runs" shipped ""
for network in zurich-lake macleish-2015 nerrs-apaeb vlinder-2022-09 beijing-prsa nyc-airports-2013; do
    echo "$network"
done | xargs -P "$at_once" -I{} sh -c "$one" sh "$data" "$runs" {} "--hold-out {}"
