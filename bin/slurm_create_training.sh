#!/usr/bin/env bash
# Cuts training stamps on many nodes of a SLURM machine; the words after the script go to
# obiwan.dplearn.create_training:
#
#   FAKE=$SCRATCH/obiwan_out sbatch --account=ACCOUNT bin/slurm_create_training.sh --select elg
#
# What the time limit stops goes back into the queue and makes what is missing; so does a job that failed (because of
# a damaged coadd, say) when it is submitted again.
#
# The lines below are for Perlmutter's CPU nodes (128 cores, SLURM counting two CPUs a core, 512 GB): a rank a core,
# each with up to 1.2 GB.  Options of sbatch win over them.  On Cori's KNL nodes (68 cores of 4 CPUs, 96 GB; switched
# off in 2023) memory was what limited:
#
#   sbatch --qos=regular --constraint=knl,quad,cache --ntasks-per-node=64 --cpus-per-task=4 bin/slurm_create_training.sh
#
#SBATCH --job-name=dplearn-create-training
#SBATCH --qos=regular
#SBATCH --constraint=cpu
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=128
#SBATCH --cpus-per-task=2
#SBATCH --time=02:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail

# Set these here, or in the environment before sbatch.
FAKE=${FAKE:-${SCRATCH:-.}/obiwan_out}    # injection outputs
REAL=${REAL-/global/cfs/cdirs/cosmo/data/legacysurvey/dr9/south} # the data release injected into; empty: none
BRICKS=${BRICKS:-}                        # a list of bricks, as etc/cnn_bricks.txt; else all that were injected into
OUTDIR=${OUTDIR:-${SCRATCH:-.}/training}  # the training set
DPLEARN_SETUP=${DPLEARN_SETUP:-}          # a file to source first (modules, conda); else the checkout's .venv, if any
SRUN_MPI=${SRUN_MPI:-}                    # srun's --mpi, where its default is not that of mpi4py's MPI: pmix, ...
MAX_RESTARTS=${MAX_RESTARTS:-20}          # times that the job goes back into the queue by itself
OBIWAN_DPLEARN_DIR=${OBIWAN_DPLEARN_DIR:-${SLURM_SUBMIT_DIR:-$PWD}} # the checkout; SLURM runs a copy of this script

if [ ! -f "$OBIWAN_DPLEARN_DIR/bin/slurm_job.sh" ]; then
    echo "$0: error: $OBIWAN_DPLEARN_DIR is no checkout: submit from one, or set OBIWAN_DPLEARN_DIR" >&2
    exit 1
fi
# shellcheck source=bin/slurm_job.sh
source "$OBIWAN_DPLEARN_DIR/bin/slurm_job.sh"

words=(--fake "$FAKE" --outdir "$OUTDIR")
if [ -n "$REAL" ]; then words+=(--real "$REAL"); fi
if [ -n "$BRICKS" ]; then words+=(--bricks "$BRICKS"); fi
if [ "${SLURM_NTASKS:-1}" -gt 1 ]; then
    words+=(--mpi)
    prepare_job mpi
else
    prepare_job
fi
export OMP_NUM_THREADS=1 # a rank is one thread
run_step '.work/group-*.json' obiwan.dplearn.create_training "${words[@]}" "$@"
