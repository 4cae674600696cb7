"""What every program needs while it runs, whatever it does.

`cli` (options, configuration files, errors in one line), `launch` (alone, or one rank of many), `profiles`
(threads and their places on a node), `executors` and `workers` (who does the work), `interruptions`
(SIGTERM), `quiet` (other libraries' notes).
"""
