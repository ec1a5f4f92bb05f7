#!/usr/bin/env bash
# Everything that needs a GPU, in a bare checkout and without a network, in calls of less than eight
# minutes each. A call builds in place what is not there and writes bench/results/gpu-NAME.CALL.json,
# whatever failed; merge makes bench/results/gpu-NAME.json of them.
#
#   bench/gpu.sh tests        builds, and tests the kernels as compiled
#   bench/gpu.sh bench        times them, and checks instruction counts with ncu
#   bench/gpu.sh triton       tests the Triton kernels, also of operations that CUDA C++ runs
#   bench/gpu.sh sanitizer    runs a small selection under compute-sanitizer's four tools
#   bench/gpu.sh merge        merges what the four have written
#   bench/gpu.sh              all of them, in this order
#   bench/gpu.sh aot          compiles the Triton kernels; needs no GPU
#
# It needs Python with torch, Triton >= 3.4, pytest, pytest-benchmark, setuptools and pybind11, a C++
# compiler, and nvcc for the CUDA kernels; with pytest-xdist tests run side by side. Every stage has a
# time limit, and what fails leaves the others alone. The CUDA kernels are built for this GPU alone,
# unless FASTMEF_CUDA_ARCHS says more.
#   PYTHON   the interpreter (python3)
#   OUT      where results and log go (bench/results)
#   SECONDS_IN_ALL   of a call, after which no stage goes on (470)
# Exit status: 0 if no stage failed, also where there is no GPU: then bench, triton and sanitizer
# are skipped, which is said. Otherwise 1.
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
# Where a toolkit puts nvcc and compute-sanitizer, which need not be on the path.
export PATH=$PATH:${CUDA_HOME:-/usr/local/cuda}/bin
# Where fastmef is not installed its kernels are found through this link.
[ -e fastmef/kernels ] || ln -s ../kernels fastmef/kernels

# run NAME SECONDS COMMAND...: a stage; what it prints goes to the log.
run() {
  local name=$1 limit=$2 begin=$SECONDS rc=0
  shift 2
  [ $((deadline - SECONDS)) -ge "$limit" ] || limit=$((deadline - SECONDS))
  printf '\n== %s\n' "$name" >>"$log"
  if [ "$limit" -lt 5 ]; then
    rc=124
  else
    # An interrupt first: pytest still writes the results it has.
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

# Tests side by side where pytest-xdist is installed: compiling for a GPU takes most of the time. Each
# process has a core for what it computes on the CPU.
parallel=()
[ -n "$gpu" ] && "$python" -c 'import xdist' 2>/dev/null && parallel=(-n 12 --dist worksteal)

# Whether there is a GPU for a call.
needs_gpu() {
  [ -n "$gpu" ] || echo "$1: skipped, no GPU"
  [ -n "$gpu" ]
}

# The CUDA C++ kernels of this checkout are there, or cannot be.
build() {
  local command=("$python" setup.py build_ext --inplace)
  if [ -n "$gpu" ]; then
    # Its kernels are wanted: without them the build has failed.
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
  # Everything once and side by side, untimed: what is timed then finds its kernels compiled.
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
  # Each tensor has its own allocation, or an access beyond one would fall into another.
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
