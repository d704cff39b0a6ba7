#!/usr/bin/env bash
# What a lent GPU is used for, in order of worth: benchmarks/gpu/run.sh OUT [PART...]
# Each part has its own limit and writes as it goes, so that a second call can go on with what is missing:
#   run.sh OUT; run.sh OUT autoattack small
# Without a GPU, `GPU_BENCH=small benchmarks/gpu/run.sh OUT` runs the same parts on a CPU in tiny sizes.
# Wheels that the machine lacks (timm, robustness, cox, dill, tensorboardX, torchattacks, platformdirs) lie in .whl/,
# and pyautoattack without its example model as a folder there.
set -u
cd "$(dirname "$0")/../.."
out=${1:?where to write}; shift
mkdir -p "$out"
if ls .whl/*.whl >/dev/null 2>&1; then
    python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target /tmp/site .whl/*.whl || exit
fi
export PYTHONPATH=/tmp/site:$PWD/.whl:$PWD:$PWD/benchmarks:${PYTHONPATH:-}
nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader 2>/dev/null | tee "$out/machine.txt"
python=${PYTHON:-python3}
$python -c "import torch, timm, torchvision; print('torch', torch.__version__, 'timm', timm.__version__)" | tee -a "$out/machine.txt"
step() {
    local limit=$1; shift
    [ "${GPU_BENCH:-}" = small ] && set -- resnet18_x0_25 32 8 "${@:4}"
    timeout "$limit" "$python" -W ignore benchmarks/gpu/step.py "$out" "$@" 2>>"$out/errors.txt"
}
attacks() { timeout "$1" "$python" -W ignore benchmarks/gpu/attacks.py "$out" "$2" 2>>"$out/errors.txt"; }
some=("robustness TF32, tuned" "TF32" "bf16, folded, tuned" "+ attack compiled, graph" "+ both compiled, step graph")
[ $# = 0 ] && set -- 256 parity pgd 128 eps0
for part in "$@"; do
    started=$SECONDS
    case $part in
    256) step 230 resnet50 224 256 --profile ;;
    128) step 90 resnet50 224 128 --only "${some[@]}" ;;
    eps0) step 70 resnet50 224 256 --eps 0 --only "${some[@]}" ;;
    parity) attacks 90 parity ;;
    pgd) attacks 40 pgd ;;
    autoattack) attacks 200 autoattack ;;
    small) step 60 resnet18 224 256 --only "${some[@]}" ;;
    wide) step 90 wide_resnet50_2 224 128 --only "${some[@]}" ;;
    convnext) step 90 convnext_tiny 224 128 --only "${some[@]}" ;;
    tiny) step 60 resnet18_x0_25 32 512 --only "${some[@]}" ;;
    *) echo "no part $part" >&2; exit 2 ;;
    esac
    echo "-- $part: $((SECONDS - started)) s"
done
