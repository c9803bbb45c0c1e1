#!/bin/sh
# Everything behind docs/results/popqa-world.md, side by side at the end:
#     sh examples/popqa_world/commands.sh popQA.tsv entityquestions/ WORK
# The recipes are those of the paper; what a small model needs otherwise is said with --set.
set -eu
popqa=$1 entities=$2 work=$3
here=$(dirname "$0")
mkdir -p "$work"

# recipe, world, questions, estimator, folder, further options
recipe() {
    name=$1 world=$2 data=$3 by=$4 out=$5
    shift 5
    curate run "$name" --model "$world/model" --data "$world/$data" --by "$by" -o "$world/$out" \
        --set validation.tune=off --set finetuning.learning_rate=1e-3 --set finetuning.batch_size=32 \
        --set finetuning.max_steps=200 "$@"
}
# Another estimator changes top and bottom only: random and whole are done once.
halves="--set selection.random=null --set selection.whole=false"

world=$work/popqa
python "$here/make.py" "$popqa" --views s_pop --temperature 0.5 --cards -o "$world"
python "$here/choose.py" "$world/questions/all.parquet" s_pop "$world/model" "$work/choose-popqa"
python "$here/choose.py" "$world/questions/all.parquet" s_pop "$world/model" "$work/choose-controlled" --controlled
recipe popqa "$world" questions/all.parquet column:s_pop by-s_pop
recipe popqa "$world" questions/all.parquet loss by-loss $halves --set estimators.shots=0
recipe popqa "$world" questions/all.parquet column:stated by-stated $halves
recipe popqa-controlled "$world" questions/all.parquet column:s_pop controlled-by-s_pop
recipe popqa-controlled "$world" questions/all.parquet loss controlled-by-loss --set estimators.shots=0
curate score "$world/questions/all.parquet" --by column:s_pop --by column:stated --by loss --shots 0 --model "$world/model" \
    -o "$world/scored.parquet"

world=$work/popqa-short
python "$here/make.py" "$popqa" --views s_pop --temperature 0.5 --cards --statements 96000 -o "$world"
recipe popqa "$world" questions/all.parquet column:s_pop by-s_pop $halves
recipe popqa "$world" questions/all.parquet column:s_pop stratified $halves --set selection.stratify_by=relation

world=$work/popqa-sentences
python "$here/make.py" "$popqa" --views s_pop --temperature 0.5 --statements 96000 -o "$world"
recipe popqa "$world" questions/all.parquet column:s_pop stratified $halves --set selection.stratify_by=relation

world=$work/entityquestions
python "$here/make.py" "$entities" --statements 192000 -o "$world"
python "$here/choose.py" "$world/questions/train.parquet" views "$world/model" "$work/choose-entityquestions"
recipe entity-questions "$world" questions column:views by-views --set validation.by=views

world=$work/entityquestions-short
python "$here/make.py" "$entities" --statements 96000 -o "$world"
recipe entity-questions "$world" questions column:views by-views --set validation.by=views
recipe entity-questions "$world" questions loss by-loss $halves --set estimators.shots=0 --set validation.by=views
recipe entity-questions "$world" questions column:stated by-stated $halves --set validation.by=views

world=$work/entityquestions-seed-1
python "$here/make.py" "$entities" --statements 96000 --seed 1 -o "$world"
recipe entity-questions "$world" questions column:views by-views $halves --set validation.by=views

for world in entityquestions entityquestions-short; do
    curate score "$work/$world/questions/train.parquet" --by column:views --by column:stated --by loss --shots 0 \
        --model "$work/$world/model" -o "$work/$world/scored.parquet"
done

curate show "$work"/popqa*/*/run/ "$work"/entityquestions*/*/run/ --html "$work/worlds.html" --force
