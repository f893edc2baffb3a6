#!/usr/bin/env bash
# One run as a Slurm job that goes on after a preemption or its time limit:  sbatch deploy/slurm.sh --preset qwen2.5-vl-3b-1gpu --images ~/pictures
# Words after the file's name go to `vzero-harness train`. Adapt the lines below; RUN_DIR must lie on a disk that all nodes see.
# On several nodes (sbatch --nodes=2, the number that the preset has as launch.nodes) the same command runs once on each; SLURM_NODEID 0 leads.
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

$VZERO doctor --preset "${PRESET:-pocket}" --out "$RUN_DIR" || exit 1

if [ "${SLURM_NNODES:-1}" -gt 1 ]; then
    export MASTER_ADDR=${MASTER_ADDR:-${SLURMD_NODENAME:-$(hostname)}} # this script runs on the first node, where the others come to
    srun --ntasks-per-node=1 $VZERO train --plain --out "$RUN_DIR" "$@" &
    child=$!
    trap 'scancel --signal=TERM "$SLURM_JOB_ID"' TERM INT # to the tasks: at a SIGTERM of its own srun would kill them without grace
else
    $VZERO train --plain --out "$RUN_DIR" "$@" &
    child=$!
    trap 'kill -TERM "$child"' TERM INT
fi
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
