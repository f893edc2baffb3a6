#!/usr/bin/env bash
# One run as a Slurm job that goes on after a preemption or its time limit:  sbatch deploy/slurm.sh --preset qwen2.5-vl-3b-1gpu --images ~/pictures
# Words after the file's name go to `vzero-harness train`. Adapt the lines below; RUN_DIR must lie on a disk that all nodes see.
# On several nodes (sbatch --nodes=2) a Ray cluster with a token of its own is started on them, and the command runs on the first.
#SBATCH --job-name=vzero
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --mem=128G
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=vzero-%j.log
# SIGTERM to this script two minutes before the end: the stage keeps its last checkpoint, and the harness exits with 75.
#SBATCH --signal=B:TERM@120
set -u

RUN_DIR=${RUN_DIR:-$PWD/runs/slurm-$SLURM_JOB_ID}
VZERO=${VZERO:-vzero-harness}   # or: VZERO="apptainer run --nv --containall --bind $PWD vzero.sif"
RAY=${RAY:-ray}

$VZERO doctor --preset "${PRESET:-pocket}" --out "$RUN_DIR" || exit 1

# Not by `ray symmetric-run`: it would die of the signal, and its exit code hide the 75.
if [ "${SLURM_NNODES:-1}" -gt 1 ]; then
    RAY_AUTH_TOKEN=$(od -An -tx1 -N32 /dev/urandom | tr -d ' \n')
    export RAY_AUTH_TOKEN RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
    first=${SLURMD_NODENAME:-$(hostname)} # this script runs there
    cpus=--num-cpus=${SLURM_CPUS_PER_TASK:-16}
    $RAY start --head --port=6379 "$cpus" --include-dashboard=false || exit 1
    srun --nodes=$((SLURM_NNODES - 1)) --ntasks-per-node=1 --exclude="$first" $RAY start --address="$first:6379" "$cpus" --block &
    set -- --cluster "$first:6379" --set launch.join_seconds=300 "$@"
fi
$VZERO train --plain --out "$RUN_DIR" "$@" &
child=$!
trap 'kill -TERM "$child"' TERM INT
wait "$child"
code=$?
if [ "$code" -gt 128 ]; then # perhaps it was this waiting that the signal ended: then the child's own code is still to be had
    wait "$child"
    own=$?
    [ "$own" -eq 127 ] || code=$own
fi

# 75 is "interrupted, the same command resumes". A job that is requeued starts from its top, with the same number and so the same folder.
if [ "$code" -eq 75 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
