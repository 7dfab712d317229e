#!/usr/bin/env bash
#SBATCH --job-name=fedcl
#SBATCH --array=0-4
#SBATCH --cpus-per-task=2
#SBATCH --time=01:00:00
#SBATCH --output=fedcl-%A_%a.log
# One federated run a seed, as a job array of Slurm; the runs go to one folder that all nodes share.
#
#   sbatch examples/sweep.sh federated=fedavg rounds=20 output=FOLDER
#
# A job that was cut off goes on where it was when it is submitted again; one that is done is skipped.
set -euo pipefail

fedcl federated "seed=$SLURM_ARRAY_TASK_ID" "threads=$SLURM_CPUS_PER_TASK" "$@"
