#!/usr/bin/env bash
# Everything that needs a GPU, in a bare checkout and without a network, in less than ten minutes:
# builds in place, tests the kernels as compiled, times them, writes bench/results/gpu-NAME.json.
#
#   bench/gpu.sh [STAGE ...]      stages: build tests bench triton sanitizer (all, in this order)
#                                 and aot, which needs no GPU
#
# It needs Python with torch, Triton >= 3.4, pytest, pytest-benchmark, setuptools and pybind11, a C++
# compiler, and nvcc for the CUDA kernels. Every stage has a time limit, and what fails leaves the
# others alone. The CUDA kernels are built for this GPU alone, unless FASTMEF_CUDA_ARCHS says more.
#   PYTHON   the interpreter (python3)
#   OUT      where the result and the log go (bench/results)
#   SECONDS_IN_ALL   after which no stage goes on (570)
# Exit status: 0 if no stage failed, also where there is no GPU: then bench, triton and sanitizer
# are skipped, which is said. Otherwise 1. The result file is there whatever failed.
set -uo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
out=${OUT:-bench/results}
deadline=${SECONDS_IN_ALL:-570}
stages=("$@")
[ ${#stages[@]} -gt 0 ] || stages=(build tests bench triton sanitizer)
mkdir -p "$out"
log=$out/gpu.log
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
: >"$log"
: >"$scratch/stages"
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

# Files of tests side by side, for compiling takes most of the time; their output stays in one piece.
# Each has a core for what it computes on the CPU.
# shellcheck disable=SC2016
side_by_side='out=$("$@" 2>&1); rc=$?; printf "%s\n" "$out"; exit $rc'
pytest_files() {
  local parallel=$1
  shift
  printf '%s\0' "$@" | xargs -0 -P "$parallel" -I{} \
    env OMP_NUM_THREADS=1 bash -c "$side_by_side" - "$python" -m pytest -p no:cacheprovider -rs {}
}
export -f pytest_files
export python side_by_side

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

# Whether there is a GPU for a stage.
needs_gpu() {
  [ -n "$gpu" ] || echo "$1: skipped, no GPU"
  [ -n "$gpu" ]
}

collect() {
  "$python" -m bench.collect "$scratch" "$out" "$gpu"
}

for stage in "${stages[@]}"; do
  case $stage in
    build)
      command=("$python" setup.py build_ext --inplace)
      if [ -n "$gpu" ]; then
        # Its kernels are wanted: without them the build has failed.
        export FASTMEF_CUDA_ARCHS=${FASTMEF_CUDA_ARCHS:-$capability}
        command=(env FASTMEF_CUDA="${FASTMEF_CUDA:-1}" "${command[@]}")
      fi
      run build 200 "${command[@]}"
      ;;
    tests) run tests 150 bash -c 'pytest_files "$@"' - 8 tests/gpu/test_*.py ;;
    triton)
      # Without the CUDA C++ kernels, Triton runs their operations too.
      needs_gpu "$stage" && FASTMEF_CUDA=0 run triton 200 bash -c 'pytest_files "$@"' - 16 \
        tests/gpu/test_operations.py tests/kernels/test_*.py
      ;;
    bench)
      needs_gpu "$stage" || continue
      # Everything once and side by side, untimed: what is timed then finds its kernels compiled.
      PYTEST_ADDOPTS=--benchmark-disable run compile 120 bash -c 'pytest_files "$@"' - 16 \
        bench/gpu/test_*.py
      for file in bench/gpu/test_*.py; do
        name=$(basename "$file" .py)
        run "$name" 110 "$python" -m pytest -p no:cacheprovider -rs "$file" \
          --benchmark-json="$scratch/$name.json"
      done
      collect >>"$log" 2>&1 # should a later stage end this script
      ;;
    sanitizer)
      needs_gpu "$stage" || continue
      if ! command -v compute-sanitizer >/dev/null; then
        echo "sanitizer: skipped, no compute-sanitizer"
        continue
      fi
      # Each tensor has its own allocation, or an access beyond one would fall into another.
      for tool in memcheck racecheck initcheck; do
        PYTORCH_NO_CUDA_MEMORY_CACHING=1 run "$tool" 90 \
          compute-sanitizer --tool "$tool" --error-exitcode 1 \
          "$python" -m pytest -p no:cacheprovider tests/gpu/test_operations.py -k "values and 7"
      done
      ;;
    aot) run aot 150 "$python" -m bench.machine_code triton ;;
    *)
      echo "no stage $stage; there are build, tests, bench, triton, sanitizer and aot" >&2
      exit 2
      ;;
  esac
done

"$python" -c 'import fastmef; fastmef.show_config()' | tee -a "$log" || failed=1
if [ -n "$gpu" ]; then
  collect || failed=1
else
  echo "no GPU: nothing was timed"
fi
exit $failed
