#!/usr/bin/env bash
# Trains the network on many nodes of a SLURM machine; the words after the script go to obiwan.dplearn.cnn:
#
#   sbatch --account=ACCOUNT bin/slurm_cnn.sh --epochs 20
#
# A run that the time limit stops goes back into the queue and on from its last checkpoint; one that failed goes on
# from there when it is submitted again, with another number of nodes, too.
#
# Ranks are joined by Horovod, or by JAX where KERAS_BACKEND=jax is set before sbatch; on Perlmutter's GPU nodes, one
# rank a GPU:
#
#   export KERAS_BACKEND=jax PROFILE=auto
#   sbatch --account=ACCOUNT --constraint=gpu --gpus-per-node=4 --ntasks-per-node=4 --cpus-per-task=32 bin/slurm_cnn.sh
#
# The lines below are for Perlmutter's CPU nodes (two 64-core EPYC 7763, 8 NUMA domains of 16 cores, SLURM counting
# two CPUs a core): one rank a domain.  Options of sbatch win over them.  Cori's KNL nodes, which the program was
# first written for and which were switched off in 2023, took one rank of 68 cores, 4 CPUs each:
#
#   PROFILE=knl sbatch --qos=regular --constraint=knl,quad,cache --ntasks-per-node=1 --cpus-per-task=272 bin/slurm_cnn.sh
#
#SBATCH --job-name=dplearn-cnn
#SBATCH --qos=regular
#SBATCH --constraint=cpu
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=06:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail

# Set these here, or in the environment before sbatch.
DATA=${DATA:-${SCRATCH:-.}/training}      # the training set, from bin/slurm_create_training.sh
OUTDIR=${OUTDIR:-${SCRATCH:-.}/cnn}       # model, checkpoints, logs and result
PROFILE=${PROFILE:-perlmutter}            # threads and affinity: perlmutter, knl, auto
DPLEARN_SETUP=${DPLEARN_SETUP:-}          # a file to source first (modules, conda); else the checkout's .venv, if any
SRUN_MPI=${SRUN_MPI:-}                    # srun's --mpi, where its default is not that of Horovod's MPI: pmix, ...
MAX_RESTARTS=${MAX_RESTARTS:-20}          # times that the job goes back into the queue by itself
OBIWAN_DPLEARN_DIR=${OBIWAN_DPLEARN_DIR:-${SLURM_SUBMIT_DIR:-$PWD}} # the checkout; SLURM runs a copy of this script

if [ ! -f "$OBIWAN_DPLEARN_DIR/bin/slurm_job.sh" ]; then
    echo "$0: error: $OBIWAN_DPLEARN_DIR is no checkout: submit from one, or set OBIWAN_DPLEARN_DIR" >&2
    exit 1
fi
# shellcheck source=bin/slurm_job.sh
source "$OBIWAN_DPLEARN_DIR/bin/slurm_job.sh"

needs=(train)
case ${KERAS_BACKEND:-tensorflow},$((${SLURM_NTASKS:-1} > 1)) in
    jax,*) SRUN_MPI=${SRUN_MPI:-none} ;; # its ranks find each other without MPI
    tensorflow,1) needs+=(horovod) ;;
    *,1) die "KERAS_BACKEND=$KERAS_BACKEND trains in one task, not in $SLURM_NTASKS: give sbatch --nodes=1" \
        "--ntasks-per-node=1, or set KERAS_BACKEND to tensorflow or jax" ;;
esac
prepare_job "${needs[@]}"
run_step 'checkpoints/step_*.npz' obiwan.dplearn.cnn --data "$DATA" --outdir "$OUTDIR" --profile "$PROFILE" "$@"
