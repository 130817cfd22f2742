# A service without an engine: auth, ingest or query (whose image also runs the vector process).
#   docker build -f deploy/service.Dockerfile --build-arg SERVICE=ingest -t aquifer-ingest .
# BASE is any image with Python 3.11 or newer, its venv module and useradd. PIP_INDEX_URL names a
# package index other than the public one. Everything is installed by hash.
ARG BASE=python:3.11-slim
FROM ${BASE} AS build
ARG SERVICE
ARG PIP_INDEX_URL
WORKDIR /src
ENV PATH=/opt/tools/bin:$PATH
RUN python3 -m venv /opt/tools && python3 -m venv --without-pip /opt/aquifer
COPY deploy/requirements/build.txt deploy/requirements/${SERVICE}.txt ./
RUN pip install --no-cache-dir --no-deps --require-hashes -r build.txt \
 && pip --python /opt/aquifer install --no-cache-dir --no-deps --require-hashes \
        --only-binary :all: -r ${SERVICE}.txt
COPY packages/contracts packages/contracts
COPY packages/chassis packages/chassis
COPY services/${SERVICE} services/${SERVICE}
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheels \
        ./packages/contracts ./packages/chassis ./services/${SERVICE} \
 && pip --python /opt/aquifer install --no-deps --no-index /wheels/*.whl

FROM ${BASE}
ARG SERVICE
RUN groupadd --gid 10001 aquifer \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent aquifer \
 && install -d -o aquifer -g aquifer -m 0700 /var/lib/aquifer
COPY deploy/entrypoint /usr/local/bin/aquifer-entrypoint
COPY --from=build /opt/aquifer /opt/aquifer
ENV PATH=/opt/aquifer/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    OPENBLAS_NUM_THREADS=1 \
    AQUIFER_MODULE=${SERVICE} \
    AQUIFER_LISTEN=0.0.0.0:50051 \
    AQUIFER_METRICS_LISTEN=0.0.0.0:9464
USER 10001:10001
EXPOSE 50051 9464
ENTRYPOINT ["aquifer-entrypoint"]
CMD ["serve"]
