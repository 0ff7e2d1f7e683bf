#!/usr/bin/env bash
# The GPU benchmarks of docs/performance.md, one JSON file each.
#   benchmarks/gpu.sh FOLDER [DEVICE] [SIZE]
# DEVICE is cuda unless told otherwise; SIZE "tiny" runs the same commands on tiny shapes, anywhere.
set -euo pipefail
out=${1:?usage: benchmarks/gpu.sh FOLDER [DEVICE] [SIZE]}
device=${2:-cuda}
size=${3:-full}
bench=(python -m layerbridge bench)
mkdir -p "$out"

if [ "$size" = tiny ]; then
  pair=(--encoder shape:tiny-encoder --language-model shape:tiny-lm)
  translator=shape:tiny-translator
  fusion=(--layers 3 --width 32 --tokens 64)
  batches=(4) paper_batch=2 rows=8 texts=1 new=4
else
  pair=(--encoder shape:mt5-large --language-model shape:llama-3.2-1b)
  translator=shape:nllb-1.3b
  fusion=(--layers 24 --width 1024 --tokens 65536)
  batches=(128 512) paper_batch=8 rows=5010 texts=16 new=64
fi
on=(--device "$device" --dtype bfloat16)

"${bench[@]}" fusion "${fusion[@]}" "${on[@]}" > "$out/fusion.json"
for batch in "$paper_batch" "${batches[@]}"; do
  "${bench[@]}" train "${pair[@]}" "${on[@]}" --batch-size "$batch" > "$out/train-$batch.json"
done
"${bench[@]}" train "${pair[@]}" "${on[@]}" --batch-size "${batches[0]}" --ablate \
  > "$out/waterfall.json"
"${bench[@]}" evaluate "${pair[@]}" "${on[@]}" --rows "$rows" --batch-size 256 > "$out/evaluate.json"
"${bench[@]}" memory "${pair[@]}" "${on[@]}" --batch-size "${batches[0]}" > "$out/memory.json"
for cache in dynamic static; do
  "${bench[@]}" latency "${pair[@]}" "${on[@]}" --translator "$translator" --texts "$texts" \
    --max-new-tokens "$new" --cache "$cache" > "$out/latency-$cache.json"
done
