#!/usr/bin/env bash
# Own data with nothing but the required flags: every fusion, three seeds, on news topics.
#
#   benchmarks/own_data.sh DATA [OUTPUT]
#
# DATA has train-en.jsonl and test-LANGUAGE.jsonl (text, label). Runs that have a result are skipped,
# so that an interrupted series goes on. Tested on the languages that the encoder was trained on.
set -euo pipefail
output=${2:-runs/own-data}
languages=${LANGUAGES:-am ha om so sw xh}
mkdir -p "$output"
ln -sfn "$(realpath "$1")" "$output/data"
{
  echo "name: news"
  echo "template: '{text}'"
  echo "labels: [business, entertainment, health, politics, sports, technology]"
  echo "files:"
  echo "  train: data/train-en.jsonl"
  echo "  test:"
  for language in $languages; do echo "    $language: data/test-$language.jsonl"; done
} >"$output/news.yaml"

layerbridge baseline tf-idf --task "$output/news.yaml" --task-option max_test=60 \
  -o "$output/tf-idf.json" >/dev/null
for seed in ${SEEDS:-0 1 2}; do
  for fusion in ${FUSIONS:-token-softmax last global-softmax}; do
    run="$output/$fusion/seed-$seed"
    if compgen -G "$run/results/*.json" >/dev/null; then continue; fi
    layerbridge train --data "$output/data/train-en.jsonl" --target label \
      --encoder zoo:multilingual-e5-small --language-model zoo:smollm2-135m-instruct \
      --fusion "$fusion" --seed "$seed" -o "$run" --overwrite
    layerbridge evaluate "$run" --task "$output/news.yaml" --task-option max_test=60
  done
done
layerbridge table "$output" --intervals
