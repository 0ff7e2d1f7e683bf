# syntax=docker/dockerfile:1

# The server. The image contains no models: mount runs at /runs; backbones are cached in /cache.
#
#   docker build -t layerbridge .                                    torch engine, any machine
#   docker build -t layerbridge:vllm --build-arg BASE=vllm/vllm-openai:TAG .     vLLM, GPUs
#
# See docs/deploy.md.

# With a base image that contains vLLM, --engine auto uses vLLM.
ARG BASE=python:3.12-slim

FROM python:3.12-slim AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m pip wheel --no-deps --wheel-dir /wheels .

FROM ${BASE}

# An index with torch builds without CUDA, a tenth of the size; empty uses pip's default index.
# A torch in the base image is kept, because its vLLM needs it.
ARG TORCH_INDEX_URL=

COPY constraints.txt /tmp/constraints.txt
RUN --mount=type=cache,target=/root/.cache/pip \
    if python3 -c "import torch" 2>/dev/null; then exit 0; fi; \
    python3 -m pip install ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} \
      "$(grep '^torch==' /tmp/constraints.txt)"

# Some base images mark their Python as externally managed, and pip would refuse to install.
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install "$(ls /wheels/layerbridge-*.whl)[serve,zoo]"

# The home folder is the cache, so that nothing needs another writable folder.
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

# Models are downloaded and loaded before the server is ready.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m --retries=3 \
    CMD ["python3", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]

ENTRYPOINT ["layerbridge"]
CMD ["serve", "--help"]
