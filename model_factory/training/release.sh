#!/bin/sh
# The runs behind a release, on one GPU: RUNS/shipped, trained on whole records, whose weights ship; RUNS/proof, the same
# recipe without the last fifth of each record, which is scored there; and one more with each measuring network left out.
# Samples are framed once for each length of record and shared.
# usage: release.sh DATA RUNS [AT-ONCE]     then, where onnxscript is: model-factory export, quantize, evaluate, bundle
set -eu
data=$1 runs=$2 at_once=${3:-1}
mkdir -p "$runs"
export data runs
train='
set -eu
run=$0
exec python3 -m model_factory.cli train station "$data" --out "$runs/$run" --no-export "$@" >"$runs/$run.log" 2>&1
'
sh -c "$train" proof --bank "$runs/bank.pt"
{
    echo "shipped --test-fraction 0"
    for network in zurich-lake macleish-2015 nerrs-apaeb vlinder-2022-09 beijing-prsa nyc-airports-2013; do
        echo "$network --bank $runs/bank.pt --hold-out $network"
    done
} | xargs -P "$at_once" -L1 sh -c "$train"
