#!/usr/bin/env bash
# Everything that only a GPU can show, in one command of at most 540 s:
#
#     bash experiments/benchmarks/gpu_session.sh OUT [WHEELS]
#
# Runs on a machine without a network, with Python 3.12, torch 2.11 and triton 3.6. WHEELS (default .whl) is a folder
# of what may be missing there; each wheel found is installed for the session, none is needed but array-api-compat:
#
#     python -m pip download --no-deps --only-binary=:all: --python-version 3.12 --platform manylinux2014_x86_64 \
#         -d .whl array-api-compat liger-kernel cut-cross-entropy trl==1.16.0 datasets==5.2.0 dill multiprocess
#
# Each step is a process of its own under `timeout`; a failure is a row, and the next step starts. OUT gets
#     rows.jsonl      a JSON line per fact, on disk as soon as it is known; those of an earlier session in OUT are moved
#                     to rows.before-*.jsonl
#     log.txt         what the steps print
#     table.md        the rows as Markdown, by `python -m benchmarks.gpu_session.table OUT/rows.jsonl`
# SESSION_TINY=1 rehearses at a tiny size (with TRITON_INTERPRET=1 where there is no GPU), SESSION_PYTHON names the
# interpreter, SESSION_STEPS the steps ("smoke rivals"), SESSION_SECONDS the time for all.
# Each step ends when the limits of it and of those before are over, so that what one leaves the next may use.
set -u
root=$(cd "$(dirname "$0")/../.." && pwd)
out=${1:?usage: gpu_session.sh OUT [WHEELS]}
wheels=${2:-$root/.whl}
python=${SESSION_PYTHON:-python3}
total=${SESSION_SECONDS:-540}
chosen=${SESSION_STEPS:-import ceilings smoke build tests shapes sweep rivals training memcheck racecheck}
tiny=${SESSION_TINY:+--tiny}
mkdir -p "$out" && out=$(cd "$out" && pwd)
rows=$out/rows.jsonl
# A case that has rows is not run again: a second session in the same folder starts anew, and says so.
before=
if [ -s "$rows" ]; then
    before=rows.before-$(date +%Y%m%dT%H%M%S).jsonl
    mv "$rows" "$out/$before"
fi
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
export PYTHONPATH=$root:$root/experiments:$site${PYTHONPATH:+:$PYTHONPATH}
export SESSION_ROWS=$rows PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
exec >>"$out/log.txt" 2>&1

record() { # KIND STEP SECONDS EXIT-CODE
    printf '\n{"step": "%s", "kind": "%s", "seconds": %s, "code": %s}\n' "$2" "$1" "$3" "$4" >>"$rows"
}

step() { # NAME LIMIT COMMAND...
    local name=$1 limit left=$((total - SECONDS - 5)) begun=$SECONDS code
    case " $chosen " in *" $name "*) ;; *) return ;; esac
    planned=$((planned + $2)) limit=$((planned - SECONDS))
    shift 2
    [ "$limit" -gt "$left" ] && limit=$left
    if [ "$limit" -lt 3 ]; then
        record "no time left" "$name" 0 0
        return
    fi
    echo "== $name, at most $limit s, at $SECONDS s"
    LIMIT=$limit timeout --kill-after=3 "$limit" "$@"
    code=$?
    record ended "$name" $((SECONDS - begun)) "$code"
}

cases() { # NAME LIMIT: the limit that its parent keeps is a little shorter than that of `timeout`
    step "$1" "$2" bash -c "exec '$python' -m benchmarks.gpu_session $1 --rows '$rows' --until \$(($(date +%s) + LIMIT - 3)) $tiny"
}

sanitize() { # TOOL: the smoke cases under compute-sanitizer, each tensor an allocation of its own whose end is seen
    command -v compute-sanitizer || return 127
    PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool "$1" --error-exitcode 9 \
        "$python" -m benchmarks.gpu_session smoke --child --skip build --named "$1" --rows "$rows" $tiny
}

kernel_tests() {
    local options=(-q -p no:cacheprovider -p benchmarks.gpu_session.pytest_rows -m "" --maxfail=40)
    local device=cuda
    [ -n "$tiny" ] && device=cpu
    [ -n "$tiny" ] && options+=(-k equal_logits_everywhere) || options+=(-n 8)
    cd "$root" && NONDECOUPLING_KERNEL_UNDER_TEST=triton NONDECOUPLING_KERNEL_DEVICE=$device \
        exec "$python" -m pytest "${options[@]}" tests/kernels/test_token_stats.py tests/kernels/test_token_kl.py \
        tests/kernels/test_extreme_logits.py tests/kernels/interpreted_launch.py \
        --deselect tests/kernels/interpreted_launch.py::test_this_process_runs_the_interpreter
}
[ -n "$before" ] &&
    printf '{"step": "session", "kind": "anew", "why": "earlier rows are in %s"}\n' "$before" >>"$rows"
export -f sanitize kernel_tests
export root rows python tiny

if compgen -G "$wheels/*.whl" >/dev/null; then
    # One by one: a wheel that cannot be installed costs no other.
    for wheel in "$wheels"/*.whl; do
        begun=$SECONDS
        timeout 10 "$python" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target "$site" \
            "$wheel"
        code=$?
        record ended "wheel ${wheel##*/}" $((SECONDS - begun)) "$code"
    done
fi
planned=$SECONDS
# The first import reads some gigabytes from disk: a step of its own, or it would cost the next its cases.
step import 25 "$python" -c "import torch, triton; torch.cuda.is_available() and torch.zeros(1).cuda()"
cases ceilings 25
cases smoke 40
cases build 50
step tests 70 bash -c kernel_tests
cases shapes 30
cases sweep 60
cases rivals 105
cases training 50
step memcheck 35 bash -c "sanitize memcheck"
step racecheck 30 bash -c "sanitize racecheck"
timeout 10 "$python" -m benchmarks.gpu_session.table "$rows" >"$out/table.md"
record ended session "$SECONDS" 0
