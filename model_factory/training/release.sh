#!/bin/sh
# The runs behind a release: the weights that ship, and one run with each measuring network left out.
# usage: release.sh DATA RUNS [AT-ONCE]     then, where onnxscript is: model-factory export, quantize, evaluate, bundle
set -eu
data=$1 runs=$2 at_once=${3:-1}
for name in shipped zurich-lake macleish-2015 nerrs-apaeb vlinder-2022-09 beijing-prsa nyc-airports-2013; do
    echo "$name"
done | xargs -P "$at_once" -I{} sh -c '
    left_out=$([ "$1" = shipped ] || echo "--hold-out $1")
    exec python3 -m model_factory.cli train station "$2" --out "$3/$1" $left_out --no-export >"$3/$1.log" 2>&1
' sh {} "$data" "$runs"
