# shellcheck shell=bash
# Sourced by the batch scripts of bin/ in a SLURM job: environment, preflight, and a step that can be interrupted.
#
#   prepare_job [EXTRA...]          afterwards `python` runs the package of $OBIWAN_DPLEARN_DIR
#   run_step MODULE WORD...       python -m MODULE WORD... on all tasks of the job, to its end or to the time limit

say() {
    printf '%s: %s\n' "${SLURM_JOB_NAME:-job}" "$*"
}

prepare_job() { # prepare_job [EXTRA...]: what the preflight must find
    local venv=${OBIWAN_DPLEARN_VENV:-$OBIWAN_DPLEARN_DIR/.venv}
    if [ -n "${DPLEARN_SETUP:-}" ]; then
        set +u # modules and activation scripts are not written for it
        # shellcheck source=/dev/null
        source "$DPLEARN_SETUP"
        set -u
    elif [ -x "$venv/bin/python" ]; then
        export VIRTUAL_ENV=$venv PATH=$venv/bin:$PATH
    fi
    # Ours before obiwan and legacypipe; the directory that the job started in stays off the path.
    export PYTHONPATH=$OBIWAN_DPLEARN_DIR/py${PYTHONPATH:+:$PYTHONPATH} PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1
    # From SLURM 22.05 on srun does not take this from sbatch by itself, and would bind each rank to one core.
    if [ -n "${SLURM_CPUS_PER_TASK:-}" ]; then export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK; fi
    say "job ${SLURM_JOB_ID:-?}, start $((${SLURM_RESTART_COUNT:-0} + 1)): ${SLURM_NTASKS:-1} tasks" \
        "of ${SLURM_CPUS_PER_TASK:-1} CPUs on ${SLURM_JOB_NUM_NODES:-1} node(s)"
    python -m obiwan.dplearn ${1:+--need} "$@"
}

# On the signal before the time limit: end the step and put the job in the queue again, where it goes on.
time_is_up() {
    trap '' USR1
    say "the time limit is near: ending the step"
    if [ -n "$step" ]; then
        kill -TERM "$step" 2>/dev/null || true
        wait "$step" || true
    fi
    if [ "${SLURM_RESTART_COUNT:-0}" -lt "$MAX_RESTARTS" ]; then
        say "back into the queue, to go on where this stopped"
        scontrol requeue "$SLURM_JOB_ID"
        exit 0
    fi
    say "error: not finished after ${SLURM_RESTART_COUNT:-0} restarts; submit it again, perhaps with a longer --time" >&2
    exit 1
}

run_step() { # run_step MODULE WORD...
    # A rank that dies ends the others, and each rank keeps to cores of its own.
    srun --kill-on-bad-exit=1 --cpu-bind=cores ${SRUN_MPI:+"--mpi=$SRUN_MPI"} python -m "$@" </dev/null &
    step=$!
    wait "$step" # in the background, for bash runs a trap only between commands and during `wait`
}

step=''
trap time_is_up USR1
