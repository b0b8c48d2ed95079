#!/bin/sh
# inputs/guard.sh, claims.sh and what they source, in a checkout of its own with stand-ins for mpirun, the program and Python:
# failures end them with status 1, and names are relative to where they were started; then env.sh as it is installed.
cd "$(dirname "$0")/.." || exit 2
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/some/place" "$work/bin" "$work/top/outputs/demo-finetune/model" "$work/top/inputs"
cp inputs/env.sh inputs/guard.sh inputs/claims.sh "$work/top/inputs"
touch "$work/top/Makefile" "$work/top/outputs/demo-finetune/model/model.safetensors"
cat >"$work/bin/mpirun" <<'SH'
#!/bin/sh
shift 2
exec "$@"
SH
cat >"$work/bin/run" <<'SH'
#!/bin/sh
printf '%s\n' "$*" >>started
for word; do case $word in output.directory=*) mkdir -p "${word#*=}" ;; esac; done
SH
cat >"$work/bin/python" <<'SH'
#!/bin/sh
echo "table of $2"
SH
chmod +x "$work"/bin/*
passed=0 failed=0
place=some/place script=../../top/inputs/guard.sh
is() { # is TEXT FOUND EXPECTED
    if [ "$2" = "$3" ]; then passed=$((passed + 1)); else
        failed=$((failed + 1))
        echo "FAILED: $1: $2"
    fi
}
check() { # check TEXT STATUS LAST_LINE NAME=VALUE...: what $script ends with, started in $place
    text=$1 expected="$2 $3"
    shift 3
    (cd "$work/$place" && env "PATH=$work/bin:$PATH" "$@" sh $script) >"$work/out" 2>&1
    is "$text" "$? $(tail -n 1 "$work/out")" "$expected"
}
check "every run fails" 1 "table of outputs/guard" PROGRAM=false PYTHON=../../bin/python
check "one run fails" 1 "table of outputs/guard" PROGRAM=false PYTHON=../../bin/python ONLY=start/evaluation
check "all is well" 0 "table of outputs/guard" PROGRAM=../../bin/run PYTHON=../../bin/python
check "what is complete is not run again" 0 "table of outputs/guard" PROGRAM=false PYTHON=../../bin/python
check "the table fails" 1 "start/evaluation: " PROGRAM=../../bin/run PYTHON=false OUT=other ONLY=start/evaluation
place=. script=top/inputs/guard.sh
check "CDPATH, with which cd prints" 0 "table of outputs/guard" PROGRAM=false PYTHON=bin/python CDPATH=.:/
rm "$work/top/started"
script=top/inputs/claims.sh
check "claims" 0 "table of verdicts" PROGRAM=bin/run PYTHON=bin/python JOBS=1 SEEDS=42 MA= RATES= BEYOND= ONLY="ga po" \
    MORE='data.template.question_end="\nQ\c"'
is "a backslash in a key reaches every run" "$(grep -cF ' data.template.question_end="\nQ\c"' "$work/top/started")" 2

# As installed, without a Makefile: the directory to work in.
mkdir -p "$work/share/unlearn/inputs" "$work/share/unlearn/analysis" "$work/user"
cp inputs/env.sh "$work/share/unlearn/inputs"
cat >"$work/share/unlearn/inputs/where.sh" <<'SH'
. "$(dirname "$0")/env.sh"
echo "${PWD##*/some/} $(awk 'BEGIN { print 0.5 * 3e-4 }') $LC_CTYPE"
SH
ln -s /usr "$work/user/analysis"
place=some/place script=../../share/unlearn/inputs/where.sh
check "a site's WORK is not touched" 0 "place/unlearn-work 0.00015 C" PROGRAM=true LC_ALL=C "WORK=$work/user"
check "it is found again" 0 "place/unlearn-work 0.00015 C" PROGRAM=true LC_ALL=C
check "what somebody else has put there is not replaced" 2 "$script: $work/user/analysis: is there, but is no link to \
$work/share/unlearn/analysis: remove it or set UNLEARN_WORK" PROGRAM=true "UNLEARN_WORK=$work/user"
if localedef -i de_DE -f UTF-8 "$work/de_DE.UTF-8" >/dev/null 2>&1 || [ -e "$work/de_DE.UTF-8/LC_NUMERIC" ]; then
    check "a decimal comma" 0 "place/unlearn-work 0.00015 de_DE.UTF-8" PROGRAM=true "LOCPATH=$work" LC_ALL=de_DE.UTF-8
else echo "no localedef: a locale with a decimal comma is not tried"; fi
echo "$passed passed, $failed failed"
[ $failed = 0 ]
