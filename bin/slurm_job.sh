# shellcheck shell=bash
# Sourced by the batch scripts of bin/ in a SLURM job: environment, preflight, and a step that can be interrupted.
#
#   prepare_job [EXTRA...]        afterwards `python` runs the package of $OBIWAN_DPLEARN_DIR
#   run_step FILES MODULE WORD... python -m MODULE WORD... on all tasks of the job, to its end or to the time limit;
#                                 FILES, a pattern, are those of the output directory that the next start goes on from

say() {
    printf '%s: %s\n' "${SLURM_JOB_NAME:-job}" "$*"
}

die() {
    say "error: $*" >&2
    exit 1
}

# The task of an array has the id of the whole array, or one that users do not see.
job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
job=${job:-${SLURM_JOB_ID:-}}
patience=${PATIENCE:-60} # seconds that the tasks have to end; cnn takes 20 at most
soon=30                  # seconds until SLURM signals a job whose time is shorter than the lead of its signal

job_field() { # job_field NAME: what SLURM says of this job, as TimeLimit or Requeue
    { scontrol -o show job "$job" | tr ' ' '\n' | sed -n "/^$1=/{s///p;q;}"; } 2>/dev/null || true
}

prepare_job() { # prepare_job [EXTRA...]: what the preflight must find
    local venv=${OBIWAN_DPLEARN_VENV:-$OBIWAN_DPLEARN_DIR/.venv}
    local -a more=()
    if [ -n "${DPLEARN_SETUP:-}" ]; then
        [ -r "$DPLEARN_SETUP" ] || die "DPLEARN_SETUP: cannot read $DPLEARN_SETUP"
        set +u # modules and activation scripts are not written for it
        # shellcheck source=/dev/null
        source "$DPLEARN_SETUP" || die "DPLEARN_SETUP: $DPLEARN_SETUP failed (see above)"
        set -u
    elif [ -x "$venv/bin/python" ]; then
        export VIRTUAL_ENV=$venv PATH=$venv/bin:$PATH
    fi
    command -v python >/dev/null || die "no python in $venv/bin or on the PATH: set OBIWAN_DPLEARN_VENV to an" \
        "environment with the package's needs (doc/howto/install.rst), or DPLEARN_SETUP to a file that loads one"
    # Ours before obiwan and legacypipe; the directory that the job started in stays off the path.
    export PYTHONPATH=$OBIWAN_DPLEARN_DIR/py${PYTHONPATH:+:$PYTHONPATH} PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1
    # From SLURM 22.05 on srun does not take this from sbatch by itself, and would bind each rank to one core.
    if [ -n "${SLURM_CPUS_PER_TASK:-}" ]; then export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK; fi
    say "job ${job:-?}, start $((${SLURM_RESTART_COUNT:-0} + 1)): ${SLURM_NTASKS:-1} tasks" \
        "of ${SLURM_CPUS_PER_TASK:-1} CPUs on ${SLURM_JOB_NUM_NODES:-1} node(s)"
    check_time
    if [ $# -gt 0 ]; then more+=(--need "$@"); fi
    if [ "${SLURM_NTASKS:-1}" -gt 1 ]; then more+=(--srun ${SRUN_MPI:+"$SRUN_MPI"}); fi
    python -m obiwan.dplearn ${more[@]+"${more[@]}"}
}

# Warn of a time limit that is shorter than the lead of the signal, with which SLURM stops the job at once.
check_time() {
    local limit lead days=0 hours minutes seconds
    limit=$(job_field TimeLimit)
    # Of the script, for SLURM does not say what sbatch was given.
    lead=$(sed -n 's/^#SBATCH --signal=.*@//p' "$0" 2>/dev/null || true)
    [[ $limit =~ ^([0-9]+-)?[0-9]+:[0-9]+:[0-9]+$ && $lead =~ ^[0-9]+$ ]] || return 0 # none, or unlimited
    case $limit in *-*) days=${limit%%-*} limit=${limit#*-} ;; esac
    IFS=: read -r hours minutes seconds <<<"$limit"
    limit=$((((10#$days * 24 + 10#$hours) * 60 + 10#$minutes) * 60 + 10#$seconds))
    [ "$limit" -le $((lead + soon)) ] || return 0
    too_short="--time=$((limit / 60)) is too short for --signal=B:USR1@$lead, by which SLURM signals this script $lead s\
 before the time limit; give sbatch --time=$(((lead + soon) / 60 + 5)) or more, or a shorter lead, as --signal=B:USR1@60"
    say "warning: unless sbatch was given another --signal than the script's: $too_short"
}

# On the signal before the time limit: end the step and put the job in the queue again, where it goes on.
time_is_up() {
    trap '' USR1
    local elapsed=$SECONDS answer
    say "the time limit is near: ending the step"
    if [ -n "$step" ] && end_step; then exit 0; fi # it had just finished
    if [ -n "$too_short" ] && [ "$elapsed" -le $soon ]; then
        die "stopped after $elapsed s and not put back into the queue: $too_short"
    elif [ "$(files_saved)" = "$saved_before" ]; then
        die "not put back into the queue: in $elapsed s this start wrote no $files in $place, from which the next" \
            "would go on; submit it again with a longer --time"
    elif [ "${SLURM_RESTART_COUNT:-0}" -ge "$MAX_RESTARTS" ]; then
        die "not finished after ${SLURM_RESTART_COUNT:-0} restarts; submit it again, perhaps with a longer --time"
    elif [ "$(job_field Requeue)" = 0 ]; then
        die "stopped before it was finished, and --no-requeue keeps it out of the queue; submit it again to go on"
    fi
    say "back into the queue, to go on where this stopped (SLURM waits two minutes before the next start)"
    answer=$(scontrol requeue "$job" 2>&1) || die "SLURM refuses to requeue it ($answer); submit it again to go on"
    exit 0
}

# SIGTERM for the tasks, which save what they have.  Not for srun, which would kill them at once; that comes last.
end_step() {
    scancel --signal=TERM "$job" || true
    local second
    for ((second = 0; second < patience; second++)); do
        kill -0 "$step" 2>/dev/null || break
        sleep 1
    done
    if kill -TERM "$step" 2>/dev/null; then say "warning: a task did not end within $patience s and is killed"; fi
    wait "$step"
}

files_saved() { # what tells whether this start has made progress
    { cd "$place" && find . -path "./$files" -printf '%p %T@ %s\n' | sort; } 2>/dev/null || true
}

run_step() { # run_step FILES MODULE WORD...
    local word last=''
    files=$1
    shift
    for word in "$@"; do # the last one counts, as for the program
        case $last in --outdir) place=$word ;; esac
        case $word in --outdir=*) place=${word#*=} ;; esac
        last=$word
    done
    saved_before=$(files_saved)
    # A rank that dies ends the others, and each rank keeps to cores of its own.
    srun --kill-on-bad-exit=1 --cpu-bind=cores ${SRUN_MPI:+"--mpi=$SRUN_MPI"} python -m "$@" </dev/null &
    step=$!
    wait "$step" # in the background, for bash runs a trap only between commands and during `wait`
}

step='' files='' place=$OUTDIR saved_before='' too_short=''
trap time_is_up USR1
