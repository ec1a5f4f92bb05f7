#!/usr/bin/env bash
# Run all tests and benchmarks that need a GPU, in a bare checkout and without a network, in calls of
# less than eight minutes each. A call builds missing kernels in place and writes
# bench/results/gpu-NAME.CALL.json even if stages fail; merge writes bench/results/gpu-NAME.json.
#
#   bench/gpu.sh tests        builds, and tests the kernels as compiled
#   bench/gpu.sh bench        times them, and checks instruction counts with ncu
#   bench/gpu.sh triton       tests the Triton kernels, also of operations that CUDA C++ runs
#   bench/gpu.sh sanitizer    runs a small selection under compute-sanitizer's four tools
#   bench/gpu.sh merge        merges the results of these four calls
#   bench/gpu.sh              all of them, in this order
#   bench/gpu.sh aot          compiles the Triton kernels; needs no GPU
#
# It needs Python with torch, Triton >= 3.4, pytest, pytest-benchmark, setuptools and pybind11, a C++
# compiler, and nvcc for the CUDA kernels. With pytest-xdist, tests run in parallel. Every stage has a
# time limit, and a failed stage does not stop the others. The CUDA kernels are built for this GPU only,
# unless FASTMEF_CUDA_ARCHS is set.
#   PYTHON   the interpreter (python3)
#   OUT      the folder for results and log (bench/results)
#   SECONDS_IN_ALL   time limit of a call (470)
# Exit status: 0 if no stage failed, otherwise 1. Without a GPU, bench, triton and sanitizer are
# skipped with a message, which is not a failure.
set -uo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
out=${OUT:-bench/results}
limit_in_all=${SECONDS_IN_ALL:-470}
calls=("$@")
[ ${#calls[@]} -gt 0 ] || calls=(tests bench triton sanitizer merge)
mkdir -p "$out"
log=$out/gpu.log
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
case " ${calls[*]} " in *" tests "*) : >"$log" ;; esac # the first of several calls
failed=0
unset TRITON_INTERPRET
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
# A toolkit's nvcc and compute-sanitizer may not be on the path.
export PATH=$PATH:${CUDA_HOME:-/usr/local/cuda}/bin
# If fastmef is not installed, its kernels are found through this link.
[ -e fastmef/kernels ] || ln -s ../kernels fastmef/kernels

# run NAME SECONDS COMMAND...: run a stage; its output goes to the log.
run() {
  local name=$1 limit=$2 begin=$SECONDS rc=0
  shift 2
  [ $((deadline - SECONDS)) -ge "$limit" ] || limit=$((deadline - SECONDS))
  printf '\n== %s\n' "$name" >>"$log"
  if [ "$limit" -lt 5 ]; then
    rc=124
  else
    # After an interrupt, pytest still writes the results that it has.
    timeout -s INT -k 15 "$limit" "$@" >"$scratch/log" 2>&1 || rc=$?
    cat "$scratch/log" >>"$log"
  fi
  printf '%s %s %s\n' "$name" "$rc" $((SECONDS - begin)) >>"$scratch/stages"
  if [ "$rc" -eq 0 ]; then
    echo "$name: passed ($((SECONDS - begin)) s)"
    return
  fi
  failed=1
  if [ "$limit" -lt 5 ]; then echo "$name: FAILED, no time left"; return; fi
  case $rc in
    124 | 137) echo "$name: FAILED, stopped after $limit s" ;;
    *) echo "$name: FAILED, exit status $rc" ;;
  esac
  tail -n 25 "$scratch/log"
}

export OMP_NUM_THREADS=1
pytest=("$python" -m pytest -p no:cacheprovider -rs)

say_gpu='import torch
if torch.cuda.is_available():
    print(torch.cuda.get_device_name(), "%d%d" % torch.cuda.get_device_capability(), sep=";")'
gpu=$("$python" -c "$say_gpu") || failed=1
capability=${gpu##*;} gpu=${gpu%;*}
if [ -z "$gpu" ] && nvidia-smi -L 2>/dev/null | grep -q '^GPU'; then
  echo "FAILED: there is a GPU, but torch cannot use it"
  failed=1
fi
echo "GPU: ${gpu:-no GPU}" | tee -a "$log"

# With pytest-xdist, tests run in parallel, because compiling for a GPU takes most of the time. Each
# process uses one core.
parallel=()
[ -n "$gpu" ] && "$python" -c 'import xdist' 2>/dev/null && parallel=(-n 12 --dist worksteal)

# needs_gpu CALL: succeed if there is a GPU; otherwise say that the call is skipped.
needs_gpu() {
  [ -n "$gpu" ] || echo "$1: skipped, no GPU"
  [ -n "$gpu" ]
}

# build: compile the kernels of this checkout in place.
build() {
  local command=("$python" setup.py build_ext --inplace)
  if [ -n "$gpu" ]; then
    # On a GPU, a build without CUDA kernels is a failure.
    export FASTMEF_CUDA_ARCHS=${FASTMEF_CUDA_ARCHS:-$capability}
    command=(env FASTMEF_CUDA="${FASTMEF_CUDA:-1}" "${command[@]}")
  fi
  run build 200 "${command[@]}"
}
build_once() {
  ls fastmef/_cuda*.so >/dev/null 2>&1 || build
}

call_bench() {
  build_once
  # All benchmarks run once in parallel and untimed, so that their kernels are compiled.
  run compile 100 "${pytest[@]}" "${parallel[@]}" --benchmark-disable bench/gpu
  local file name
  for file in bench/gpu/test_*.py; do
    name=$(basename "$file" .py)
    run "$name" 70 "${pytest[@]}" "$file" --benchmark-json="$scratch/$name.json"
  done
  if command -v ncu >/dev/null; then
    run ncu 90 "$python" -m bench.machine_code ncu --json "$scratch/ncu"
  else
    echo "ncu: skipped, no ncu"
  fi
}

call_sanitizer() {
  if ! command -v compute-sanitizer >/dev/null; then
    echo "sanitizer: skipped, no compute-sanitizer"
    return
  fi
  build_once
  # Each tensor needs its own allocation, or an access out of bounds would hit another tensor.
  local tool
  for tool in memcheck racecheck initcheck synccheck; do
    PYTORCH_NO_CUDA_MEMORY_CACHING=1 run "$tool" 100 \
      compute-sanitizer --tool "$tool" --error-exitcode 1 \
      "${pytest[@]}" tests/gpu/test_operations.py -k "values and 7"
  done
}

for call in "${calls[@]}"; do
  deadline=$((SECONDS + limit_in_all))
  rm -f "$scratch"/*
  : >"$scratch/stages"
  case $call in
    tests)
      [ -z "$gpu" ] || build
      run tests 260 "${pytest[@]}" "${parallel[@]}" tests/gpu
      ;;
    bench) needs_gpu bench && call_bench ;;
    triton)
      # Without the CUDA C++ kernels, Triton runs their operations too.
      needs_gpu triton && FASTMEF_CUDA=0 run triton 440 "${pytest[@]}" "${parallel[@]}" \
        tests/gpu/test_operations.py tests/kernels
      ;;
    sanitizer) needs_gpu sanitizer && call_sanitizer ;;
    aot) run aot 150 "$python" -m bench.machine_code triton ;;
    merge) ;;
    *)
      echo "no call $call; there are tests, bench, triton, sanitizer, merge and aot" >&2
      exit 2
      ;;
  esac
  if [ -z "$gpu" ]; then
    continue
  elif [ "$call" = merge ]; then
    "$python" -m bench.collect merge "$out" "$gpu" || failed=1
  else
    "$python" -m bench.collect "$call" "$out" "$gpu" "$scratch" >>"$log" 2>&1 || failed=1
  fi
done

"$python" -c 'import fastmef; fastmef.show_config()' | tee -a "$log" || failed=1
[ -n "$gpu" ] || echo "no GPU: nothing was timed"
exit $failed
