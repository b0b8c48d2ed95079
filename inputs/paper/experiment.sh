#!/bin/sh
# Prints the arguments that ./unlearn needs for experiments of the paper, a line for each:
#   sh inputs/paper/experiment.sh MODEL SPLIT NAME... [key.sub=value ...]
#   MODEL  phi-1.5, llama2-7b, llama3.2-1b or demo: MODEL.yaml beside this file
#   SPLIT  forget01, forget05 or forget10; demo has forget05 alone
#   NAME   a line of experiments.txt, with regularisers (wga+kl) and /evaluation as wanted; @GROUP: all of a group (@methods with
#          and without gd and kl); -n first: only the names
# Results go to outputs/MODEL/SPLIT/NAME, those of finetune to outputs/MODEL/finetune. In the environment: TOFU, the directory of
# the data (../data/tofu), and BASE, the model that finetune and retrain begin from.
#   mpirun -np 8 ./unlearn $(sh inputs/paper/experiment.sh phi-1.5 forget05 npo+kl)
#   sh inputs/paper/experiment.sh llama2-7b forget05 @sweep >sweep.runs
here=$(dirname "$0")
set -f # names and keys are no patterns
fail() {
    echo "experiment.sh: $*" >&2
    exit 2
}
only_names=
if [ "$1" = -n ]; then
    only_names=1
    shift
fi
[ $# -ge 3 ] || fail "usage: experiment.sh [-n] MODEL SPLIT NAME|@GROUP... [key.sub=value ...]; experiments.txt has the names"
model=$1 split=$2
shift 2

# The model's own: where it begins, its blocks at a third, two thirds and the end, how it learns.
tofu=${TOFU:-../data/tofu} form=json holdout=
learn="train.epochs=5 train.batch_size=16 train.accumulation=2 optimizer.weight_decay=0.01 geffect.every=0"
case $model in
phi-1.5) base=../models/phi-1_5 blocks="8 16 24" ;;
llama2-7b) base=../models/Llama-2-7b-chat-hf blocks="10 21 32" ;; # of the paper's code
llama3.2-1b)
    base=../models/Llama-3.2-1B-Instruct blocks="5 11 16" holdout=1
    learn="train.epochs=5 geffect.every=0" ;; # the preset's batches of 8 x 4 and decay
demo)
    base=inputs/demo/model blocks="1 3 4" tofu=${TOFU:-inputs/demo} form=jsonl
    learn="model.init=random optimizer.lr=1.0e-3 train.epochs=30 train.batch_size=8 train.accumulation=4 geffect.every=0" ;;
*) fail "$model: no such model: phi-1.5, llama2-7b, llama3.2-1b or demo" ;;
esac
case $model/$split in
*/forget05) retain=retain95 ;;
[!d]*/forget01) retain=retain99 ;;
[!d]*/forget10) retain=retain90 ;;
*) fail "$split: no such split of $model: forget01, forget05 or forget10; demo has forget05" ;;
esac
base=${BASE:-$base} out=outputs/$model more='' names='' elsewhere=
test -z "${TOFU-}" || [ "$model" = demo ] || elsewhere="data.idk.path=$tofu/idontknow.jsonl evaluate.sets.retain=$tofu/retain_perturbed.json
    evaluate.sets.real_authors=$tofu/real_authors_perturbed.json evaluate.sets.world_facts=$tofu/world_facts_perturbed.json"
for argument; do
    case $argument in
    *=*) more="$more $argument" ;;
    @*)
        group=$(awk -v g="${argument#@}" '$1 !~ /^#/ && ("," $2 ",") ~ ("," g ",") { print $1; if (g == "methods") print $1 "+gd\n" $1 "+kl" }' \
            "$here/experiments.txt")
        [ -n "$group" ] || fail "$argument: no such group: @learn, @methods, @figures, @sweep or @open_unlearning"
        names="$names $group" ;;
    *) names="$names $argument" ;;
    esac
done
[ -n "$names" ] || fail "no name of an experiment; experiments.txt has them"

keys_of() { # keys_of NAME: its keys, with the model's own in the place of capitals
    awk -v name="$1" -v full="$tofu/full.$form" -v retain="$tofu/$retain.$form" -v base="$base" -v learn="$learn" -v blocks="$blocks" '
        $1 == name { sub(/#.*/, ""); $1 = $2 = ""; split(blocks, b, " ")
            gsub(/FULL/, full); gsub(/RETAIN/, retain); gsub(/BASE/, base); gsub(/LEARN/, learn)
            gsub(/FIRST/, b[1]); gsub(/SECOND/, b[2]); gsub(/LAST/, b[3]); print; exit }' "$here/experiments.txt"
}
group_of() { awk -v name="$1" '$1 == name { print $2; exit }' "$here/experiments.txt"; }
regularizers() { # regularizers +NAME+NAME...: the key that adds them; without any: none, also where a preset has one
    list=
    for r in $(echo "$1" | tr + ' '); do
        case $r in
        rr) item="{\"name\":\"rr\",\"layer\":$(echo "$blocks" | cut -d' ' -f2)}" ;;
        gd | kl) item=$r ;;
        *) fail "$r is no regulariser: gd, kl or rr" ;;
        esac
        list="$list${list:+,}$item"
    done
    case $1 in
    +*+* | '') echo "objective.regularizer=[$list]" ;;
    *) echo "objective.regularizer=$list" ;;
    esac
}
directory() { # directory NAME: where the results of a run go
    if [ "$1" = finetune ]; then echo "$out/finetune"; else echo "$out/$split/$1"; fi
}
scored() { # scored NAME: the keys that score what the run NAME has made
    echo "task=evaluate model.path=$(directory "$1")/model model.reference=$out/finetune/model"
    echo "evaluate.sets.forget=$tofu/${split}_perturbed.$form"
    test -z "$holdout" || echo "evaluate.sets.holdout=$tofu/holdout${split#forget}.$form"
    test "$1" = retrain || echo "evaluate.retain_logs=$out/$split/retrain/evaluation/TOFU_EVAL.json"
}
for name in $names; do
    if [ -n "$only_names" ]; then
        echo "$name"
        continue
    fi
    run=${name%/evaluation}
    plain=${run%%+*}
    added=${run#"$plain"}
    keys=$(keys_of "$plain")
    [ -n "$keys" ] || fail "$name: no such experiment: experiments.txt has the names"
    where=$(directory "$run")
    if [ "$run" != "$name" ]; then
        keys=$(scored "$run") where=$out/$split/$name
    else
        case $added/$(group_of "$plain") in
        /learn | /open_unlearning) ;; # the latter's regularisers are their own, or the preset's
        *) regularizer=$(regularizers "$added") || exit 2
            keys="$keys $regularizer" ;;
        esac
        case $keys in
        *task=finetune*) ;;
        *) keys="$keys data.forget.path=$tofu/$split.$form data.retain.path=$tofu/$retain.$form" ;;
        esac
    fi
    # shellcheck disable=SC2086
    set -- "$here/$model.yaml" $keys $elsewhere "output.directory=$where" $more
    printf '%s\n' "$*" # echo would take a backslash in a key for its own
done
