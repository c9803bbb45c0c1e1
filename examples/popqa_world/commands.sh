#!/bin/sh
# Everything behind docs/results/popqa-world.md and docs/results/entityquestions-world.md:
#     sh examples/popqa_world/commands.sh popQA.tsv entityquestions/ WORK
# The recipes are those of the paper; what a small model needs otherwise is said with --set.
set -eu
popqa=$1 entities=$2 work=$3
here=$(dirname "$0")

# recipe, model, questions, estimator, folder, further options
recipe() {
    name=$1 model=$2 data=$3 by=$4 out=$5
    shift 5
    curate run "$name" --model "$model" --data "$data" --by "$by" -o "$out" \
        --set validation.tune=off --set finetuning.learning_rate=1e-3 --set finetuning.batch_size=32 \
        --set finetuning.max_steps=200 "$@"
}
# Another estimator changes top and bottom only: random and whole are done once.
halves="--set selection.random=null --set selection.whole=false"

world=$work/popqa
python "$here/make.py" "$popqa" --views s_pop --temperature 0.5 --cards -o "$world"
curate score "$world/questions/all.parquet" --by column:s_pop --by column:stated --by loss --model "$world/model" \
    -o "$world/scored.parquet"
recipe popqa "$world/model" "$world/questions/all.parquet" column:s_pop "$world/by-s_pop"
recipe popqa "$world/model" "$world/questions/all.parquet" column:stated "$world/by-stated" $halves
recipe popqa "$world/model" "$world/questions/all.parquet" loss "$world/by-loss" $halves
recipe popqa-controlled "$world/model" "$world/questions/all.parquet" column:s_pop "$world/controlled-by-s_pop"
recipe popqa-controlled "$world/model" "$world/questions/all.parquet" loss "$world/controlled-by-loss"

world=$work/entityquestions
python "$here/make.py" "$entities" --statements 192000 -o "$world"
curate score "$world/questions/train.parquet" --by column:views --by column:stated --by loss --model "$world/model" \
    -o "$world/scored.parquet"
recipe entity-questions "$world/model" "$world/questions" column:views "$world/by-views" --set validation.by=views
recipe entity-questions "$world/model" "$world/questions" column:stated "$world/by-stated" $halves --set validation.by=views
recipe entity-questions "$world/model" "$world/questions" loss "$world/by-loss" $halves --set validation.by=views

for name in popqa entityquestions; do
    python "$here/results.py" "$work/$name" "docs/results/$name-world.md"
done
