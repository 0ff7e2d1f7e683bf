# syntax=docker/dockerfile:1

# The server. No model is in the image: runs are mounted at /runs, and backbones are kept in /cache.
#
#   docker build -t layerbridge .                                    torch engine, any machine
#   docker build -t layerbridge:vllm --build-arg BASE=vllm/vllm-openai:TAG .     vLLM, GPUs
#
# See docs/deploy.md.

# With an image that has vLLM in it, --engine auto takes vLLM.
ARG BASE=python:3.12-slim

FROM python:3.12-slim AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m pip wheel --no-deps --wheel-dir /wheels .

FROM ${BASE}

# Where pip finds torch without CUDA, which is a tenth of the size; empty takes pip's own index.
# What the base brings is kept: its torch fits its vLLM.
ARG TORCH_INDEX_URL=

COPY constraints.txt /tmp/constraints.txt
RUN --mount=type=cache,target=/root/.cache/pip \
    if python3 -c "import torch" 2>/dev/null; then exit 0; fi; \
    python3 -m pip install ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} \
      "$(grep '^torch==' /tmp/constraints.txt)"

# Some bases mark their Python as the system's, and pip would refuse to add to it.
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install /wheels/layerbridge-*.whl

# The home folder is the cache, so that whatever keeps files there needs no other writable place.
RUN useradd --uid 10001 --no-create-home --home-dir /cache --shell /usr/sbin/nologin layerbridge \
    && mkdir --parents /cache /runs \
    && chown 10001:10001 /cache
USER 10001:10001
ENV HOME=/cache \
    LAYERBRIDGE_HOME=/cache/layerbridge \
    HF_HOME=/cache/huggingface \
    PYTHONUNBUFFERED=1
WORKDIR /
VOLUME ["/cache"]
EXPOSE 8000

# The models are read at the start, and may have to be fetched before.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m --retries=3 \
    CMD ["python3", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]

ENTRYPOINT ["layerbridge"]
CMD ["serve", "--help"]
