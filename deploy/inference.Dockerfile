# Inference with the MiniLM engine on the CPU; its weights come in a package, nothing is downloaded
# at run time.
#   docker build -f deploy/inference.Dockerfile -t aquifer-inference .
# With vLLM for GPUs, on a base with a C compiler; see README.md:
#   docker build -f deploy/inference.Dockerfile -t aquifer-inference-gpu --build-arg BASE=python:3.11 \
#     --build-arg REQUIREMENTS=deploy/requirements/inference-vllm.txt .
ARG BASE=python:3.11-slim
FROM ${BASE} AS build
ARG REQUIREMENTS=deploy/requirements/inference.txt
ARG PIP_INDEX_URL
WORKDIR /src
ENV PATH=/opt/tools/bin:$PATH
RUN python3 -m venv /opt/tools && python3 -m venv --without-pip /opt/aquifer
COPY deploy/requirements/build.txt ./
COPY ${REQUIREMENTS} ./requirements.txt
RUN pip install --no-cache-dir --no-deps --require-hashes -r build.txt \
 && pip --python /opt/aquifer install --no-cache-dir --no-deps --require-hashes \
        --only-binary :all: -r requirements.txt
COPY packages/contracts packages/contracts
COPY packages/chassis packages/chassis
COPY services/inference services/inference
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheels \
        ./packages/contracts ./packages/chassis ./services/inference \
 && pip --python /opt/aquifer install --no-deps --no-index /wheels/*.whl

FROM ${BASE}
# The home is for caches of vLLM and of what it compiles with; nothing else writes to it.
RUN groupadd --gid 10001 aquifer \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/cache/aquifer aquifer \
 && install -d -o aquifer -g aquifer -m 0700 /var/cache/aquifer
COPY deploy/entrypoint /usr/local/bin/aquifer-entrypoint
COPY --from=build /opt/aquifer /opt/aquifer
ENV PATH=/opt/aquifer/bin:$PATH \
    HOME=/var/cache/aquifer \
    PYTHONUNBUFFERED=1 \
    OPENBLAS_NUM_THREADS=1 \
    AQUIFER_MODULE=inference \
    AQUIFER_LISTEN=0.0.0.0:50051 \
    AQUIFER_METRICS_LISTEN=0.0.0.0:9464
USER 10001:10001
EXPOSE 50051 9464
ENTRYPOINT ["aquifer-entrypoint"]
CMD ["serve"]
