"""Running programs: command lines, workers, signals, threads.

`cli` (options, configuration files, errors in one line), `launch` (ranks of a launcher), `profiles` (threads
of a node), `backends` (that of Keras), `programs` (which there are), `workers` (programs that hand out
tasks), `executors` (worker processes and MPI ranks), `interruptions` (SIGTERM and Ctrl-C), `quiet`
(TensorFlow's notes), `streams` (random generators by purpose), `functions` (those of the user).
"""
