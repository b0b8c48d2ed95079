#!/bin/sh
# What each action of a guard does to the demo: four objectives, each without and with every action, then a table of what was
# forgotten and what was kept (docs/GUARD.md).
#   sh inputs/guard.sh           after `make demo`, whose fine-tuned model it takes; about ten minutes on two cores
# Results in outputs/guard/OBJECTIVE-ACTION. What is complete is not run again. NP processes (2); ONLY="NAME ..." for some.
# Ends with status 1 where one of them has failed.
. "$(dirname "$0")/env.sh"
set -f
NP=${NP:-2} OUT=${OUT:-outputs/guard}
LEARNT=outputs/demo-finetune/model
test -e "$LEARNT/model.safetensors" || { echo "guard.sh: $LEARNT is not there: make demo"; exit 2; }

# NAME OVERRIDES
objectives='
npo-gd  objective={"name":"npo","beta":0.5,"regularizer":"gd"}
npo     objective={"name":"npo","beta":0.5}
ga-gd   objective={"name":"ga","regularizer":"gd"} optimizer.lr=5e-5
ga      objective={"name":"ga"} optimizer.lr=5e-5'
actions='
none
stop       guard={"retain":0.05} geffect.every=1
step_back  guard={"retain":{"budget":0.05,"do":"step_back"}} geffect.every=1 checkpoint.every=1
predicted  guard={"retain":{"budget":0.05,"of":"predicted"}} geffect.every=1
freeze     guard={"freeze":2}
project    guard={"project":1}
mean       guard={"project":0.8}'

# one NAME INPUT OVERRIDES: a run, unless it is complete
one() {
    name=$1 input=$2
    shift 2
    test ! -e "$OUT/$name/complete" || return 0
    case " ${ONLY:-$name} " in *" $name "*) ;; *) return 0 ;; esac
    mkdir -p "$OUT"
    if mpirun -np "$NP" "$PROGRAM" --overwrite "$input" output.directory="$OUT/$name" "$@" >"$OUT/log" 2>&1 </dev/null; then
        mv "$OUT/log" "$OUT/$name/complete"
        echo "$name: $(sed -n 's/^total \([0-9.]* s\).*/\1/p' "$OUT/$name/complete")"
    else
        echo "$name FAILED: $(grep error "$OUT/log" | head -n 1)"
        status=1
    fi
}

status=0
while read -r objective overrides; do
    test -n "$objective" || continue
    while read -r action more; do
        test -n "$action" || continue
        # shellcheck disable=SC2086
        one "$objective-$action" inputs/demo-unlearn.yaml geffect.every=2 $overrides $more
        one "$objective-$action/evaluation" inputs/demo-evaluate.yaml model.path="$OUT/$objective-$action/model"
    done <<END
$actions
END
done <<END
$objectives
END
one start/evaluation inputs/demo-evaluate.yaml model.path="$LEARNT"
"$PYTHON" analysis/guard.py "$OUT" || status=1
exit $status
