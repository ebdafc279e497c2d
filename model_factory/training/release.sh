#!/bin/sh
# The runs behind a release: the weights that ship, and one run with each measuring network left out. Each is half of a
# brief run and half of a long one (`model-factory train mix`). Samples are framed once for each length and shared.
# usage: release.sh DATA RUNS [AT-ONCE]     then, where onnxscript is: model-factory export, quantize, evaluate, bundle
set -eu
data=$1 runs=$2 at_once=${3:-1}
mkdir -p "$runs/brief" "$runs/long"
export data runs
one='
set -eu
train="python3 -m model_factory.cli train" name=$0 left_out=${1-}
for kind in "brief 200 300000" "long 800 600000"; do
    set -- $kind
    $train station "$data" --bank "$runs/$1/bank.pt" --out "$runs/$1/$name" --no-export --steps $2 --samples $3 \
        ${left_out:+--hold-out "$left_out"} >"$runs/$1/$name.log" 2>&1
done
$train mix "$runs/brief/$name" "$runs/long/$name" --out "$runs/$name"
'
sh -c "$one" shipped
for network in zurich-lake macleish-2015 nerrs-apaeb vlinder-2022-09 beijing-prsa nyc-airports-2013; do
    echo "$network"
done | xargs -P "$at_once" -I{} sh -c "$one" {} {}
