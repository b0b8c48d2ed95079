#!/bin/sh
# Runs what analysis/paper-claims holds the paper's claims against: fine-tunes once, then, for every seed, every objective of
# inputs/objectives with effects of full sets and (NAME-ma) with the moving averages of the paper's code, then for one seed the
# same at other learning rates, and what the paper could not see; after that it reads all results into one summary file and prints
# the claims' verdicts.
#   sh inputs/claims.sh demo           the demo's model and data: minutes a seed on two cores
#   sh inputs/claims.sh stories260K    a real tiny model on TOFU's forget05; SHARED=DIR holds models/stories260K and data/tofu
#   sh inputs/claims.sh smollm2        SmolLM2-135M-Instruct on TOFU's forget01: many hours; BASE=DIR made by `sh inputs/smollm2.sh base`
#   sh inputs/claims.sh smollm2-forget05    the same on all 200 rows of forget05: one seed, five objectives, 40 minutes a run and core
# What is complete is not run again: after an interruption, start it again; remove a directory to have its run again.
#   OUT=DIR         results, by default outputs/claims/SETTING: finetune/, seed42/NAME/, seed42-x2/NAME/ ..., SETTING.csv
#   SEEDS="42 ..."  orders of batches, and draws (retain rows of a regulariser, refusals, rmu's direction); one fine-tuned model
#   MA="42 ..."     of these, which ones with moving averages too (all of them)
#   RATES="0.5 2"   factors of the learning rate, first (smallest) seed, full sets: a claim fails only if it fails at these too; "" for none
#   BEYOND="seen scores grid"   what else of the first seed; "" for none (smollm2):
#       seen      NAME-seen: effects of tokens and of pairs of rows, and curvature, of some trainings once more
#       scores    NAME-scores: TOFU's scores before and after the trainings, against a model that never saw the forget rows (retrained)
#       grid      other values of the objectives' own parameters; then the best of each objective's grid with every seed
#   JOBS=N NP=N     N runs at a time (the number of cores), of NP processes each (1)
#   ONLY="NAME ..." some runs; MORE="key=value ..." and LEARN="key=value ..." for every run and for the fine-tuning
#
# Learning rates, the same for all objectives: of the two small models chosen once, so that ga reaches its spike and its saturation
# within the schedule; of smollm2 by a rule: the lowest on a ladder with which ga, first seed, leaves a retain risk above 5 nats.
# The best of a grid (half, once and twice this rate times the parameter's values): of the runs with the first seed after which the
# answers to be forgotten have at most the mean probability that the retrained model gives them, the one with the lowest loss on what
# stays (evaluate.sets.retain); where there is none, the one that leaves them the lowest probability.
JOBS=${JOBS:-$(nproc)} # before OMP_NUM_THREADS=1, which nproc would believe
export JOBS
. "$(dirname "$0")/env.sh"
set -f
SETTING=${1:-demo} SHARED=${SHARED:-../shared}
OUT=${OUT:-outputs/claims/$SETTING}
export OUT
LEARNT=$OUT/finetune
BASE=${BASE:-outputs/smollm2-base}
case $SETTING in
smollm2) SEEDS=${SEEDS:-42 43 44} MA=${MA-} BEYOND=${BEYOND-} forget=forget01 retain=retain99 updates=12 every=2 ;;
smollm2-forget05)
    SEEDS=${SEEDS:-42} MA=${MA-} RATES=${RATES-} BEYOND=${BEYOND-}
    ONLY=${ONLY:-ga wga npo-1 tnpo po ga-scores wga-scores npo-1-scores tnpo-scores po-scores}
    forget=forget05 retain=retain95 updates=62 every=5 ;;
esac
RATES=${RATES-0.5 2}
SEEDS=${SEEDS:-42 43 44 45 46}
MA=${MA-$SEEDS} BEYOND=${BEYOND-seen scores grid}
# shellcheck disable=SC2086
first_seed=$(printf '%s\n' $SEEDS | sort -n | head -n 1) # as analysis/paper_claims takes it
evaluate="evaluate.metrics=[extraction_strength,probability] evaluate.rows=100" # likelihoods of rows: nothing is generated
scores="evaluate.metrics=[extraction_strength,probability,probability_of_options,truth_ratio,truth_ratio_for_quality,rougeL_recall]
    evaluate.rows=100"

case $SETTING in
demo) # the input files as they are, measured more often: 4 blocks, 20 rows to forget, 50 updates, the first 10 warm-up
    first=1 second=3 last=4 lr=3e-4
    finetune="inputs/demo-finetune.yaml"
    retrain="inputs/demo-retrained.yaml"
    common="geffect.every=2"
    seen="geffect.every=5"
    evaluate="$evaluate evaluate.every=10
        evaluate.sets.forget=inputs/demo/forget05.jsonl evaluate.sets.retain=inputs/demo/retain95.jsonl"
    at_end="evaluate.every=50" length="data.max_length=128 evaluate.max_length=128"
    sets="forget=inputs/demo/forget05 retain=inputs/demo/retain real_authors=inputs/demo/known_authors
        world_facts=inputs/demo/world_facts" perturbed=_perturbed.jsonl ;;
stories260K) # 5 blocks; half the rows of forget05 and half the batch make the paper's schedule: 62 updates, the first 12 warm-up
    tofu=$SHARED/data/tofu first=2 second=3 last=5 lr=1e-3
    kept="data.max_length=500 data.retain.path=$tofu/retain95.json data.retain.rows=600 data.retain.held_out=400"
    data="$kept data.forget.path=$tofu/forget05.json data.forget.rows=100"
    learn="model.path=$SHARED/models/stories260K model.init=pretrained data.retain.held_out=0
        optimizer.lr=4e-3 train.epochs=30 train.batch_size=16 train.accumulation=1"
    finetune="inputs/demo-finetune.yaml $data $learn" retrain="inputs/demo-retrained.yaml $kept $learn"
    seen="geffect.every=10" at_end="evaluate.every=62" length="data.max_length=500 evaluate.max_length=500"
    sets="forget=$tofu/forget05 retain=$tofu/retain real_authors=$tofu/real_authors world_facts=$tofu/world_facts"
    perturbed=_perturbed.json
    common="$data data.idk.path=$tofu/idontknow.jsonl train.batch_size=4 train.accumulation=2"
    evaluate="$evaluate evaluate.every=31 evaluate.sets.forget=$tofu/forget05.json evaluate.sets.retain=$tofu/retain95.json"
    test -d "$SHARED/models/stories260K" && test -d "$tofu" ||
        { echo "skipped: $SHARED/models/stories260K or $tofu is not there"; exit 77; } ;;
smollm2*) # 30 blocks; the paper's batches of 16 rows: with forget01 12 updates, the first 2 warm-up, with forget05 62, 12; 200 rows to retain
    tofu=$SHARED/data/tofu first=10 second=20 last=30 lr=
    kept="data.max_length=256 data.retain.path=$tofu/$retain.json data.retain.rows=600 data.retain.held_out=400"
    data="$kept data.forget.path=$tofu/$forget.json"
    learn="model.path=$BASE model.init=pretrained data.retain.held_out=0
        optimizer.lr=3e-4 train.epochs=6 train.batch_size=16 train.accumulation=1"
    finetune="inputs/demo-finetune.yaml $data $learn" retrain="inputs/demo-retrained.yaml $kept $learn"
    seen="geffect.every=4" at_end="evaluate.every=$updates" length="data.max_length=256 evaluate.max_length=256"
    sets="forget=$tofu/$forget retain=$tofu/retain real_authors=$tofu/real_authors world_facts=$tofu/world_facts"
    perturbed=_perturbed.json
    common="$data data.idk.path=$tofu/idontknow.jsonl train.batch_size=4 train.accumulation=4
        geffect.every=$every geffect.risks.retain.rows=60"
    evaluate="$evaluate evaluate.every=$updates evaluate.sets.forget=$tofu/$forget.json evaluate.sets.retain=$tofu/$retain.json"
    test -d "$BASE" && test -d "$tofu" || { echo "skipped: $BASE (sh inputs/smollm2.sh base) or $tofu is not there"; exit 77; } ;;
*) echo "claims.sh: $SETTING: must be demo, stories260K, smollm2 or smollm2-forget05"; exit 2 ;;
esac
scores="$length $scores"
for set in $sets; do scores="$scores evaluate.sets.$set$perturbed"; done

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
# with full sets only: ga beside npo of ever smaller beta; npo without momentum
beside="
npo-still  npo    objective.beta=1 optimizer.betas=[0,0.999]
ga-npo     ga     geffect.objectives=[ga,$(for b in 0.001 0.1 1 2; do printf '{"name":"npo","beta":%s},' $b; done)]"
# with full sets and the first seed only: the field's others, of which no claim speaks
others="
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
# trained only: other values of their own parameters, for the grid
grid="
wga-5      wga    geffect.every=0 objective.alpha=5
tnpo-4     tnpo   geffect.every=0 objective.beta=4
wtnpo-1    wtnpo  geffect.every=0 objective.alpha=0.5 objective.beta=1
wga-5-kl   wga    objective.regularizer=kl geffect.every=0 objective.alpha=5
npo-0.1-kl npo    objective.regularizer=kl geffect.every=0 objective.beta=0.1
npo-2-kl   npo    objective.regularizer=kl geffect.every=0 objective.beta=2
tnpo-4-kl  tnpo   objective.regularizer=kl geffect.every=0 objective.beta=4
wtnpo-1-kl wtnpo  objective.regularizer=kl geffect.every=0 objective.alpha=0.5 objective.beta=1
rmu-c2-kl  rmu    objective.regularizer=kl geffect.every=0 objective.layer=$second objective.c=2"
look_at="ga wga npo-1 tnpo po rmu-second kl" # of those measured, once more for BEYOND=seen

line() { printf '%s\n' "$*"; } # its words; echo would take a backslash in a key for its own

# one NAME INPUT OVERRIDES: a run
if [ "$2" = --one ]; then
    # shellcheck disable=SC2086
    set -- $3
    name=$1 input=$2
    shift 2
    mkdir -p "$(dirname "$OUT/$name")"
    if mpirun -np "${NP:-1}" "$PROGRAM" --overwrite "$input" output.directory="$OUT/$name" "$@" \
        >"$OUT/$name.log" 2>&1 </dev/null; then
        mv "$OUT/$name.log" "$OUT/$name/complete"
        echo "$name: $(sed -n 's/^total \([0-9.]* s\).*/\1/p' "$OUT/$name/complete")"
    else
        echo "$name FAILED: $(grep error "$OUT/$name.log" | head -n 1)"
    fi
    exit 0
fi

runs() { # runs SEED FACTOR LIST SUFFIX OVERRIDES: a line NAME INPUT OVERRIDES for everything in LIST
    group=seed$1
    test "$2" = 1 || group=$group-x$2
    # shellcheck disable=SC2086
    from=$(line model.path=$LEARNT/model seed=$1 optimizer.lr="$(awk "BEGIN { print $2 * $lr }")" checkpoint.export=false \
        geffect.fidelity=true geffect.gram=false $common $evaluate $5 $MORE)
    line "$3" | while read -r name input overrides; do
        test -z "$name" || line "$group/$name$4 inputs/objectives/$input.yaml $from $overrides"
    done
}
of() { # of LIST NAME ...: its lines of these names
    list=$1
    shift
    for one in "$@"; do line "$list" | awk -v name="$one" '$1 == name'; done
}
wanted() { case " $BEYOND " in *" $1 "*) ;; *) return 1 ;; esac }
all() { # what tells most comes first
    for seed in $SEEDS; do runs "$seed" 1 "$measured$beside$with_kl"; done
    for seed in $MA; do # which change no training
        runs "$seed" 1 "$measured" -ma "geffect.estimator=moving_average geffect.fidelity=false evaluate.every=0"
    done
    for factor in $RATES; do runs "$first_seed" "$factor" "$measured$beside$with_kl"; done
    runs "$first_seed" 1 "$others"
    wanted grid && for factor in 1 $RATES; do runs "$first_seed" "$factor" "$grid"; done
    # shellcheck disable=SC2086
    wanted seen && runs "$first_seed" 1 "$(of "$measured" $look_at)" -seen \
        "geffect.tokens=true geffect.pairs=true geffect.curvature=true $seen evaluate.every=0"
    wanted scores && runs "$first_seed" 1 "$measured$others" -scores \
        "geffect.every=0 geffect.fidelity=false $scores $at_end evaluate.retain_logs=$OUT/retrained-scores/eval_log_aggregated.json"
    true
}
best() { # the best of each objective's grid, with the other seeds: trained only, where they are not there
    chosen=$("$PYTHON" analysis/paper-claims best "$OUT/$SETTING.csv") || return
    echo "$chosen" | while read -r name factor; do
        for seed in $SEEDS; do
            runs "$seed" "$factor" "$(of "$measured$with_kl$grid" "$name") geffect.every=0"
        done
    done
}
missing() { # of the lines that come in, those whose runs are wanted and not complete
    while read -r name rest; do
        case " ${ONLY:-${name#*/}} " in *" ${name#*/} "*) test -e "$OUT/$name/complete" || line "$name $rest" ;; esac
    done
}

ladder() { # the lowest rate that fulfils the rule; what is run is ga's training alone
    for rate in 1e-5 2e-5 5e-5 1e-4 2e-4 5e-4 1e-3; do
        # shellcheck disable=SC2086
        run=$(line rate/ga-$rate inputs/objectives/ga.yaml model.path=$LEARNT/model seed=$first_seed optimizer.lr=$rate \
            checkpoint.export=false $common $evaluate geffect.every=0 $MORE)
        test -e "$OUT/rate/ga-$rate/complete" || NP=${NP:-2} sh inputs/claims.sh "$SETTING" --one "$run" >&2
        test -e "$OUT/rate/ga-$rate/complete" || return 1
        "$PYTHON" analysis/paper-claims risk "$OUT/rate/ga-$rate" --above 5 && { echo "$rate"; return 0; }
    done
    echo "claims.sh: no rate of the ladder fulfils the rule: see $OUT/rate" >&2
    return 1
}

do_all() { # of the lines that come in, those that are missing
    missing | xargs -r -d '\n' -n 1 -P "$JOBS" sh inputs/claims.sh "$SETTING" --one
}
once() { # once NAME INPUT OVERRIDES: what the runs need, in this directory of its own
    # shellcheck disable=SC2086
    test -e "$OUT/$1/complete" || NP=${NP:-2} sh inputs/claims.sh "$SETTING" --one "$(line $*)"
    test -e "$OUT/$1/complete"
}
summarise() { "$PYTHON" analysis/paper-claims summarise "$OUT" "$OUT/$SETTING.csv"; }

"$PYTHON" -c 'import h5py' || { echo "claims.sh: $PYTHON has no h5py, with which results are read: make venv, or say PYTHON="; exit 1; }
mkdir -p "$OUT"
# shellcheck disable=SC2086
once finetune $finetune $LEARN || exit 1
test -n "$lr" || lr=$(ladder) || exit 1
if wanted scores || wanted grid; then
    # shellcheck disable=SC2086
    once retrained $retrain $LEARN && once retrained-scores inputs/demo-evaluate.yaml model.path=$OUT/retrained/model \
        model.reference=null $scores || exit 1
fi
all | do_all
left=$(all | missing | wc -l) failed=0
if wanted grid && test "$left" = 0 && summarise; then
    if of_grid=$(best); then
        line "$of_grid" | do_all
        left=$(line "$of_grid" | missing | wc -l)
    elif test -z "$ONLY"; then # which may leave out a part of the grid
        failed=1
    fi
fi
test "$left" = 0 || echo "$left runs are not complete"
summarise && "$PYTHON" analysis/paper-claims verdicts "$OUT/$SETTING.csv" || exit 1
exit $((left > 0 || failed))
