#!/usr/bin/env bash
# What a lent GPU is used for, in order of worth: benchmarks/gpu/run.sh OUT [PART...]
# Each part has its own limit and writes as it goes, so that a second call can go on with what is missing:
#   run.sh OUT; run.sh OUT autoattack small
# Without a GPU, `GPU_BENCH=small benchmarks/gpu/run.sh OUT` runs the same parts on a CPU in tiny sizes.
# The embedded CIFAR-10 grid, its images carried in two halves (cifar.py pack) in .cifar/a and .cifar/b:
#   run.sh OUT unpack probe; run.sh OUT unpack grid; run.sh OUT grid   # goes on
#   run.sh OUT unpack bundled; run.sh OUT unpack split      # measures the bundled models; the class-split study
# GRID_BATCH, GRID_LR, GRID_EPOCHS change the recipe (the same in every call), GRID_UNTIL is when to be done, in seconds.
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
features() { timeout "$1" "$python" -W ignore benchmarks/gpu/features.py "$out" "${@:2}" 2>>"$out/errors.txt"; }
attacks() { timeout "$1" "$python" -W ignore benchmarks/gpu/attacks.py "$out" "$2" 2>>"$out/errors.txt"; }
some=("robustness TF32, tuned" "what \`train\` does" "TF32" "bf16, folded, tuned" "+ attack compiled, graph" "+ both compiled, step graph")
work=${GRID_WORK:-/tmp/grid} batch=${GRID_BATCH:-256} lr=${GRID_LR:-0.4} epochs=${GRID_EPOCHS:-30}
left() { echo $((${GRID_UNTIL:-560} - SECONDS)); }
# The package with a longer recipe for its collection of CIFAR-10 models, so that what is trained has its names.
grid_code() {
    rm -rf "$work/code" && mkdir -p "$work/code" && cp -rL robust_zoo "$work/code/" || exit
    sed -i -e "/^\[recipe.cifar10_short\]/,/^note/{
        s/^epochs = .*/epochs = $epochs/; s/^batch_size = .*/batch_size = $batch/; s/^lr = .*/lr = $lr/}" \
        "$work/code/robust_zoo/registry/checkpoints.toml"
}
grid_python() { PYTHONSAFEPATH=1 PYTHONPATH=$work/code:$PYTHONPATH "$@"; }  # -m would look here first
# LIMIT DATA RUNS: timeout tells every training; what they cannot save in 20 s stays as it was saved before.
grid() {
    [ "$1" -gt 15 ] || { echo "no time left"; return; }
    grid_code
    grid_python timeout -k 20 "$1" "$python" benchmarks/grid.py "$2" "$3" --jobs "${GRID_JOBS:-8}" 2>>"$out/errors.txt"
    grid_python "$python" benchmarks/gpu/rate.py "$3" "$batch" "$epochs" 2>>"$out/errors.txt"
}
# LIMIT: every entry of the bundled models.
bundled() {
    [ "$1" -gt 15 ] || { echo "no time left"; return; }
    OMP_NUM_THREADS=1 timeout -k 10 "$1" "$python" benchmarks/bundled.py "$work/cifar10.npz" "$work/results" \
        --at-once "${GRID_JOBS:-16}" >"$work/bundled.txt" 2>>"$out/errors.txt"
    tail -n 3 "$work/bundled.txt"
}
# LIMIT: the class-split study; needs scikit-learn, scipy, joblib and threadpoolctl for its digits.
split() {
    [ "$1" -gt 15 ] || { echo "no time left"; return; }
    timeout -k 20 "$1" "$python" studies/class_split/class_split.py "$work/cifar10.npz" "$work/split" \
        --jobs "${GRID_JOBS:-8}" >"$work/split.txt" 2>>"$out/errors.txt"
    tail -n 3 "$work/split.txt"
    (cd "$work" && tar czf "$out/split.tgz" --exclude="checkpoint-*" --exclude=features --exclude=tensorboard \
        --exclude=lock --exclude=source.npz split split.txt) 2>>"$out/errors.txt"
}
# What comes back: three files, for a lent machine hands few and no deep ones back.
grid_back() {
    mkdir -p "$out/grid"
    local norm
    for norm in l2 linf; do
        (cd "$work" && tar czf "$out/grid/$norm.tgz" --exclude="checkpoint-*" --exclude=tensorboard --exclude=lock runs/${norm}_*) 2>>"$out/errors.txt"
    done
    (cd "$work" && tar czf "$out/grid/results.tgz" $(ls -d results bundled.txt 2>/dev/null)) 2>>"$out/errors.txt"
    ls -l "$out/grid"
}
[ $# = 0 ] && set -- 256 parity pgd eps0 features wide4
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
    # what `robust-zoo plan` reckons from others as long as nobody measured it
    wide4) step 60 wide_resnet50_4 224 64 --only "bf16, folded" ;;
    others) for a in vgg16_bn densenet resnext50_32x4d mobilenet mnasnet shufflenet; do step 25 $a 224 128 --only "bf16, folded"; done ;;
    features) features 60 resnet18 resnet50 wide_resnet50_2 wide_resnet50_4 mobilenet ;;
    unpack) mkdir -p "$work"; "$python" benchmarks/gpu/cifar.py unpack "$work" .cifar/* 2>>"$out/errors.txt" ;;
    probe) rm -rf "$work/probe"; grid "${GRID_PROBE:-45}" "$work/part.npz" "$work/probe" ;;
    grid) grid $(($(left) < 540 ? $(left) : 540)) "$work/cifar10.npz" "$work/runs"; grid_back ;;
    split) split $(($(left) - 15)) ;;
    bundled) bundled $(($(left) - 15)); grid_back ;;
    *) echo "no part $part" >&2; exit 2 ;;
    esac
    echo "-- $part: $((SECONDS - started)) s"
done
