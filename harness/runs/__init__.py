"""The run directory: opened and locked, its stages run as processes that can be killed and resumed, its
ledger of what happened.

RUN/run.json       the resolved preset and where the run came from; written first, never changed
RUN/ledger.jsonl   one row for everything that happened: starts, resumes, stages with seconds and attempts
RUN/stages/NN-…/   what each stage made; finished when its manifest is there
RUN/ranks/K/       on a cluster: the lock of the process that is rank K
RUN/logs/NN-….log  what each stage printed, all attempts
RUN/.lock          held by the operating system for as long as anything works in the directory
"""
