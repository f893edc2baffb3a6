# One file, three images, each the environment that `make` sets up on a laptop (docs/container.md):
#
#   docker build --target cpu -t vzero-harness .        the pocket world, evaluation, reports; `docker run vzero-harness reproduce`
#   docker build --target gpu -t vzero-harness:gpu .    torch and vLLM built for CUDA 13, and a C compiler for Triton; Linux on x86-64
#   docker build --target dev -t vzero-harness:dev .    cpu with tests and linters; `docker run vzero-harness:dev` runs all tests
#
# The base is any image with Python 3.11, 3.12 or 3.13 and its venv module; pin it by digest with --build-arg BASE=...@sha256:... .
# Only syntax that BuildKit, the classic builder and buildah share is used: no heredocs, no COPY --link, no RUN --mount.
ARG BASE=python:3.11-slim-bookworm

# The PIP_ arguments say where packages come from, as pip reads them; unset, that is pip's public default. They are declared in stages that
# are only copied from (and in dev), so an index given here reaches no image that is shipped. One with a password is better mounted as
# /etc/pip.conf (docs/container.md). Not every builder hands arguments on to stages made from a stage, so each declares its own.

# --- packages: what the environments below begin with ---
FROM ${BASE} AS packages
WORKDIR /app
COPY pyproject.toml ./
# The package is installed as a line of path to /app, so that its code can come later without doing this again.
COPY vzero/__init__.py vzero/
COPY vzero/runtime/__init__.py vzero/runtime/compat.py vzero/runtime/
RUN touch README.md LICENSE

# --- lock: the CPU environment from its hashes, made by the program that `make` runs ---
FROM packages AS lock
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_CERT
ARG SSL_CERT_FILE
COPY requirements/cpu.txt requirements/dev.in requirements/
COPY tools/setup_env.py tools/setup_env.py
RUN python3 tools/setup_env.py \
    && .venv/bin/python -m pip uninstall --quiet --yes --requirement requirements/dev.in \
    && rm .venv/setup.log .venv/setup.json

# --- lock-gpu: the CUDA environment from its hashes ---
FROM packages AS lock-gpu
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_CERT
ARG SSL_CERT_FILE
COPY requirements/cuda.txt requirements/
RUN python3 -m venv .venv \
    && .venv/bin/pip install --no-cache-dir --progress-bar off --no-deps --require-hashes --requirement requirements/cuda.txt \
    && .venv/bin/pip install --no-cache-dir --no-deps --no-build-isolation --editable . \
    && .venv/bin/python -c "import torch; assert torch.version.cuda, 'torch is no CUDA build'"

# --- runtime: what every image runs on: an init that hands signals on, a user without rights, one place to write to ---
FROM ${BASE} AS runtime
# Versions of Debian packages are not pinned: the base's digest fixes the release, and old versions leave the mirrors.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends tini && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
# All that is written goes below /data, open to any user id: `--user`, a read-only root file system and Apptainer work unchanged.
RUN mkdir -p /data && chmod 1777 /data
ENV PATH=/app/.venv/bin:$PATH \
    HOME=/data \
    LOGNAME=vzero \
    XDG_CACHE_HOME=/data/cache \
    HF_HOME=/data/cache/huggingface \
    TORCHINDUCTOR_CACHE_DIR=/data/cache/inductor \
    TRITON_CACHE_DIR=/data/cache/triton \
    VLLM_CACHE_ROOT=/data/cache/vllm \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
COPY pyproject.toml README.md LICENSE CITATION.cff CHANGELOG.md /app/
COPY vzero /app/vzero
COPY harness /app/harness
RUN python3 -m compileall -q /app/vzero /app/harness
VOLUME /data
WORKDIR /data
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="vzero-harness" \
      org.opencontainers.image.description="Label-free self-improvement of vision-language models, with the evidence for or against the gain" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
ENTRYPOINT ["tini", "--", "vzero-harness"]
CMD ["--help"]
HEALTHCHECK --interval=60s --timeout=10s --start-period=5s CMD ["vzero-harness", "doctor", "--quick"]

# --- gpu: Triton compiles the launchers of its kernels at run time, so a compiler, the C library's and Python's headers are part of it.
# The python images bring Python's own headers; over a base with Debian's Python, add --build-arg PYTHON_HEADERS=python3-dev. ---
FROM runtime AS gpu
ARG PYTHON_HEADERS=
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev ${PYTHON_HEADERS} \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
COPY --from=lock-gpu /app/.venv /app/.venv
# Here and not in `runtime`, of which a builder may take another target's layer, with that one's value.
ARG LOCK_DIGEST=unknown
LABEL org.vzero-harness.lock.sha256="${LOCK_DIGEST}"
USER 10001:10001

# --- dev: the packages that cpu leaves out, from the same lock ---
FROM runtime AS dev
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_CERT
ARG SSL_CERT_FILE
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends gcc git libc6-dev make strace \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
WORKDIR /app
COPY --from=lock /app/.venv .venv
COPY requirements requirements
RUN .venv/bin/pip install --no-cache-dir --no-deps --no-build-isolation --require-hashes --requirement requirements/cpu.txt
COPY . .
ENTRYPOINT ["tini", "--"]
CMD ["python", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
USER 10001:10001

# --- cpu: the last stage, so the one that is built when none is named ---
FROM runtime AS cpu
COPY --from=lock /app/.venv /app/.venv
ARG LOCK_DIGEST=unknown
LABEL org.vzero-harness.lock.sha256="${LOCK_DIGEST}"
USER 10001:10001
