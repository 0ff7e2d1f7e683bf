#!/usr/bin/env bash
# Memory and speed on backbones of real size with random weights (docs/large-models.md): one JSON file
# for each case, and a failure, such as too little memory, ends only its own case.
#   benchmarks/gpu_size.sh FOLDER [DEVICE] [SIZE]
# DEVICE is cuda unless told otherwise; SIZE "tiny" runs the same cases on tiny shapes, anywhere.
# The weights take 20 GB in $WEIGHTS (FOLDER/weights unless set) and are removed at the end unless
# $KEEP_WEIGHTS is set. PYTHON selects the interpreter.
set -uo pipefail
out=${1:-${OUT:?usage: benchmarks/gpu_size.sh FOLDER [DEVICE] [SIZE]}}
device=${2:-cuda}
size=${3:-full}
weights=${WEIGHTS:-$out/weights}
program=("${PYTHON:-python}" "$(dirname "$0")/gpu_size.py")
mkdir -p "$out" "$weights"

encoder=mt5-xl language_model=llama-3.1-8b batch=16 tokens=128
if [ "$size" = tiny ]; then
  encoder=tiny-encoder language_model=tiny-lm batch=2 tokens=8
fi
failed=0
for shape in "$encoder" "$language_model"; do
  "${program[@]}" write "$shape" "$weights/$shape" --device "$device" || failed=1
done

# measure NAME flags…
measure() {
  local name=$1
  shift
  echo "== $name" >&2
  if ! "${program[@]}" measure "$out/$name.json" --encoder "$weights/$encoder" \
    --language-model "$weights/$language_model" --device "$device" --tokens "$tokens" "$@" \
    > "$out/$name.log" 2>&1; then
    failed=$((failed + 1))
    echo "$name failed: $(tail -n 1 "$out/$name.log" | cut -c -300)" >&2
    # Killed for memory, it could not write its own.
    [ -s "$out/$name.json" ] || printf '{"error": "it ended without a result"}\n' > "$out/$name.json"
  fi
}

# The fewest bits first: what matters most is measured if time runs out.
measure both-4 --encoder-bits 4 --language-model-bits 4 --batch "$batch"
measure lm-4 --language-model-bits 4 --batch "$batch"
measure lm-4-cached --language-model-bits 4 --batch "$batch" --cached
measure lm-4-checkpointing --language-model-bits 4 --batch "$batch" --checkpointing
measure lm-4-checkpointing-8x --language-model-bits 4 --batch $((8 * batch)) --checkpointing
if [ "$size" != tiny ] || [ -n "${ALL_CASES:-}" ]; then
  measure both-8 --encoder-bits 8 --language-model-bits 8 --batch "$batch"
  measure both-16 --batch "$batch"
  measure both-16-checkpointing --batch "$batch" --checkpointing
fi
[ -n "${KEEP_WEIGHTS:-}" ] || rm -rf "$weights"
[ "$failed" = 0 ] || echo "$failed of the cases failed" >&2
exit "$((failed > 0))"
