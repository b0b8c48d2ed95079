#!/bin/sh
# Runs what analysis/claims.py holds the paper's claims against: fine-tunes once, then every objective of inputs/objectives, with
# effects of full sets and (NAME-ma) with the moving averages of the paper's code, then prints the table and draws the curves.
#   sh inputs/claims.sh demo           the demo's model and data: minutes on two cores
#   sh inputs/claims.sh stories260K    a real tiny model on TOFU's forget05; SHARED=DIR holds models/stories260K and data/tofu
# Results in outputs/claims/SETTING/NAME. What is complete is not run again: after an interruption, start it again; remove a
# directory to have its run again. JOBS runs at a time (the number of cores), of NP=1 process each. ONLY="NAME ..." for
# some; MORE="key=value ..." and LEARN="key=value ..." for every run and for the fine-tuning.
#
# Learning rates were chosen once, so that ga reaches its spike and its saturation within the schedule, and then left alone.
JOBS=${JOBS:-$(nproc)} # before OMP_NUM_THREADS=1, which nproc would believe
export JOBS
. "$(dirname "$0")/env.sh"
set -f
SETTING=${1:-demo} SHARED=${SHARED:-../shared}
OUT=${OUT:-outputs/claims/$SETTING}
LEARNT=$OUT/finetune
evaluate="task=evaluate evaluate.metrics=[extraction_strength] evaluate.rows=100"

case $SETTING in
demo) # the input files as they are, measured more often: 4 blocks, 20 rows to forget, 50 updates, the first 10 warm-up
    first=1 second=3 last=4
    finetune="inputs/demo-finetune.yaml"
    common="geffect.every=2"
    evaluate="$evaluate evaluate.sets.forget=inputs/demo/forget05.jsonl evaluate.sets.retain=inputs/demo/retain95.jsonl" ;;
stories260K) # 5 blocks; half the rows of forget05 and half the batch make the paper's schedule: 62 updates, the first 12 warm-up
    tofu=$SHARED/data/tofu first=2 second=3 last=5
    data="data.max_length=500 data.forget.path=$tofu/forget05.json data.forget.rows=100
        data.retain.path=$tofu/retain95.json data.retain.rows=600 data.retain.held_out=400"
    finetune="inputs/demo-finetune.yaml model.path=$SHARED/models/stories260K model.init=pretrained $data
        data.retain.held_out=0 optimizer.lr=4e-3 train.epochs=30 train.batch_size=16 train.accumulation=1"
    common="$data data.idk.path=$tofu/idontknow.jsonl optimizer.lr=1e-3 train.batch_size=4 train.accumulation=2"
    evaluate="$evaluate evaluate.sets.forget=$tofu/forget05.json evaluate.sets.retain=$tofu/retain95.json"
    test -d "$SHARED/models/stories260K" && test -d "$tofu" ||
        { echo "skipped: $SHARED/models/stories260K or $tofu is not there"; exit 77; } ;;
*) echo "claims.sh: $SETTING: must be demo or stories260K"; exit 2 ;;
esac

# NAME INPUT OVERRIDES: measured with either estimator
measured="
ga         ga
wga        wga
npo-0.1    npo    objective.beta=0.1
npo-1      npo    geffect.objectives=[npo,ga]
npo-2      npo    objective.beta=2
tnpo       tnpo
wtnpo      wtnpo
po         po
rmu-first  rmu    objective.layer=$first
rmu-second rmu    objective.layer=$second
rmu-last   rmu    objective.layer=$last
rmu-c2     rmu    objective.layer=$second objective.c=2
gd         gd
kl         kl
rr         rr     objective.regularizer={\"name\":\"rr\",\"layer\":$second}"
# with full sets only: the field's others, and ga beside npo of ever smaller beta
others="
ga-npo     ga     geffect.objectives=[ga,$(for b in 0.001 0.1 1 2; do printf '{"name":"npo","beta":%s},' $b; done)]
simnpo     simnpo
satimp     satimp
ceu        ceu
undial     undial
pdu        pdu
dpo        dpo"
# trained only, with kl
with_kl="
wga-kl     wga    objective.regularizer=kl geffect.every=0
npo-kl     npo    objective.regularizer=kl geffect.every=0
tnpo-kl    tnpo   objective.regularizer=kl geffect.every=0
wtnpo-kl   wtnpo  objective.regularizer=kl geffect.every=0
po-kl      po     objective.regularizer=kl geffect.every=0
rmu-kl     rmu    objective.regularizer=kl geffect.every=0 objective.layer=$second"

# one NAME INPUT OVERRIDES: a run, unless it is complete
if [ "$2" = --one ]; then
    # shellcheck disable=SC2086
    set -- $3
    name=$1 input=$2
    shift 2
    if mpirun -np "${NP:-1}" "$PROGRAM" --overwrite "$input" output.directory="$OUT/$name" "$@" >"$OUT/$name.log" 2>&1 </dev/null; then
        mv "$OUT/$name.log" "$OUT/$name/complete"
        echo "$name: $(sed -n 's/^total \([0-9.]* s\).*/\1/p' "$OUT/$name/complete")"
    else
        echo "$name FAILED: $(grep error "$OUT/$name.log" | head -n 1)"
    fi
    exit 0
fi

all() { # all: a line NAME INPUT OVERRIDES for every run
    # shellcheck disable=SC2086,SC2116
    from=$(echo model.path=$LEARNT/model $common $MORE)
    echo "$measured$others$with_kl" | while read -r name input overrides; do
        test -z "$name" || echo "$name inputs/objectives/$input.yaml $from $overrides"
    done
    echo "$measured" | while read -r name input overrides; do
        test -z "$name" || echo "$name-ma inputs/objectives/$input.yaml $from $overrides" \
            "geffect.estimator=moving_average checkpoint.export=false"
    done
}
missing() { # of the lines that come in, those whose runs are wanted and not complete
    while read -r name rest; do
        case " ${ONLY:-$name} " in *" $name "*) test -e "$OUT/$name/complete" || echo "$name $rest" ;; esac
    done
}

mkdir -p "$OUT"
# shellcheck disable=SC2086
test -e "$LEARNT/complete" || NP=${NP:-2} sh inputs/claims.sh "$SETTING" --one "finetune $(echo $finetune $LEARN)"
test -e "$LEARNT/complete" || exit 1
all | missing | xargs -r -d '\n' -n 1 -P "$JOBS" sh inputs/claims.sh "$SETTING" --one
# what the models with and without kl still know: likelihoods of rows, nothing is generated
for name in finetune ga wga npo-1 tnpo wtnpo po rmu-second kl wga-kl npo-kl tnpo-kl wtnpo-kl po-kl rmu-kl; do
    test ! -e "$OUT/$name/model" || echo "$name/evaluation inputs/objectives/ga.yaml model.path=$OUT/$name/model $evaluate"
done | missing | xargs -r -d '\n' -n 1 -P "$JOBS" sh inputs/claims.sh "$SETTING" --one
left=$(all | missing | wc -l)
test "$left" = 0 || echo "$left runs are not complete"
"$PYTHON" analysis/claims.py "$OUT" >"$OUT/claims.md" && "$PYTHON" analysis/claims.py --picture "$OUT/claims.png" "$OUT" &&
    cat "$OUT/claims.md"
exit $((left > 0))
