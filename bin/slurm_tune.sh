#!/usr/bin/env bash
# Tunes the hyperparameters of the network with an array of jobs on a SLURM machine; the words after the script go to
# obiwan.dplearn.tune:
#
#   sbatch --account=ACCOUNT --array=0-15 bin/slurm_tune.sh --trials 200
#
# All tasks of all elements are processes of one study, each on its own: --ntasks-per-node trains that many trials of a
# node at a time.  An element that the time limit stops goes back into the queue and on with the study.
#
# The lines below are for Perlmutter's CPU nodes (two 64-core EPYC 7763, 8 NUMA domains of 16 cores, SLURM counting
# two CPUs a core): one process a domain.  Options of sbatch win over them.
#
#SBATCH --job-name=dplearn-tune
#SBATCH --qos=regular
#SBATCH --constraint=cpu
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --array=0-3
#SBATCH --time=06:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%A-%a.log
set -euo pipefail

# Set these here, or in the environment before sbatch.
DATA=${DATA:-${SCRATCH:-.}/training}      # the training set, from bin/slurm_create_training.sh
OUTDIR=${OUTDIR:-${SCRATCH:-.}/tuned}     # the study
PROFILE=${PROFILE:-perlmutter}            # threads and affinity: perlmutter, knl, auto
DPLEARN_SETUP=${DPLEARN_SETUP:-}          # a file to source first (modules, conda); else the checkout's .venv, if any
MAX_RESTARTS=${MAX_RESTARTS:-20}          # times that the job goes back into the queue by itself
OBIWAN_DPLEARN_DIR=${OBIWAN_DPLEARN_DIR:-${SLURM_SUBMIT_DIR:-$PWD}} # the checkout; SLURM runs a copy of this script

if [ ! -f "$OBIWAN_DPLEARN_DIR/bin/slurm_job.sh" ]; then
    echo "$0: error: $OBIWAN_DPLEARN_DIR is no checkout: submit from one, or set OBIWAN_DPLEARN_DIR" >&2
    exit 1
fi
# shellcheck source=bin/slurm_job.sh
source "$OBIWAN_DPLEARN_DIR/bin/slurm_job.sh"

SRUN_MPI=none # the processes share files only
prepare_job train tune
run_step 'trials/*.npz' obiwan.dplearn.tune --data "$DATA" --outdir "$OUTDIR" --profile "$PROFILE" --resume "$@"
