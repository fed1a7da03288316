#!/usr/bin/env bash
# One run on the machines of a Slurm job, in a folder that all of them see.
#
#     sbatch --nodes=2 elsewhere/slurm.sh RUN        as many as its launch.nodes
#
# One task a machine: it begins a process for each card itself. Slurm tells the training 120 seconds before the time is over; it
# writes a checkpoint, and the same command goes on from there.
#SBATCH --job-name=tsugiki
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
set -euo pipefail
run=$1
cd "$SLURM_SUBMIT_DIR"
export PATH="$PWD/.venv/bin:$PATH"

read -ra needs < <(python elsewhere/needs.py "$run")
python -m stages repro "${needs[@]}"
srun python -m stages.train "$run"
dvc commit --force "train@$run"
python -m stages repro "evaluate@$run"
