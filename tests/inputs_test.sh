#!/bin/sh
# inputs/guard.sh and what it sources, in a checkout of its own with stand-ins for mpirun, the program and Python: failures end it
# with status 1, and names are relative to where it was started.
cd "$(dirname "$0")/.." || exit 2
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/some/place" "$work/bin" "$work/top/outputs/demo-finetune/model" "$work/top/inputs"
cp inputs/env.sh inputs/guard.sh "$work/top/inputs"
touch "$work/top/Makefile" "$work/top/outputs/demo-finetune/model/model.safetensors"
cat >"$work/bin/mpirun" <<'SH'
#!/bin/sh
shift 2
exec "$@"
SH
cat >"$work/bin/run" <<'SH'
#!/bin/sh
for word; do case $word in output.directory=*) mkdir -p "${word#*=}" ;; esac; done
SH
cat >"$work/bin/python" <<'SH'
#!/bin/sh
echo "table of $2"
SH
chmod +x "$work"/bin/*
passed=0 failed=0
check() { # check TEXT STATUS LAST_LINE NAME=VALUE...: what guard.sh ends with, started elsewhere
    text=$1 expected="$2 $3"
    shift 3
    (cd "$work/some/place" && env "PATH=$work/bin:$PATH" "$@" sh ../../top/inputs/guard.sh) >"$work/out" 2>&1
    found="$? $(tail -n 1 "$work/out")"
    if [ "$found" = "$expected" ]; then passed=$((passed + 1)); else
        failed=$((failed + 1))
        echo "FAILED: $text: $found"
    fi
}
check "every run fails" 1 "table of outputs/guard" PROGRAM=false PYTHON=../../bin/python
check "one run fails" 1 "table of outputs/guard" PROGRAM=false PYTHON=../../bin/python ONLY=start/evaluation
check "all is well" 0 "table of outputs/guard" PROGRAM=../../bin/run PYTHON=../../bin/python
check "what is complete is not run again" 0 "table of outputs/guard" PROGRAM=false PYTHON=../../bin/python
check "the table fails" 1 "start/evaluation: " PROGRAM=../../bin/run PYTHON=false OUT=other ONLY=start/evaluation
echo "$passed passed, $failed failed"
[ $failed = 0 ]
