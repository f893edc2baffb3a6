"""More than one machine: where the processes of a stage run on a Ray cluster. Nothing else imports Ray.

The runner starts one process for a stage as always; on a cluster that process is `ranks`, which reserves what
the stage needs (`placement`) and has each of its processes started by an actor (`part`), as the runner itself
would on one machine: same program, same environment, ended with whoever started it.
"""
