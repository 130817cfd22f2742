# The one-shot steps of compose.yaml that come before the services: see prepare.py.
#   docker build -f deploy/prepare.Dockerfile -t aquifer-prepare .
# Of deploy/local only the modules of roles, secrets and first keys are used; the servers that it
# otherwise brings are not installed.
ARG BASE=python:3.11-slim
FROM ${BASE} AS build
ARG PIP_INDEX_URL
WORKDIR /src
ENV PATH=/opt/tools/bin:$PATH
RUN python3 -m venv /opt/tools && python3 -m venv --without-pip /opt/aquifer
COPY deploy/requirements/build.txt deploy/requirements/auth.txt ./
RUN pip install --no-cache-dir --no-deps --require-hashes -r build.txt \
 && pip --python /opt/aquifer install --no-cache-dir --no-deps --require-hashes \
        --only-binary :all: -r auth.txt
COPY packages/contracts packages/contracts
COPY packages/chassis packages/chassis
COPY services/auth services/auth
COPY deploy/local deploy/local
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheels \
        ./packages/contracts ./packages/chassis ./services/auth ./deploy/local \
 && pip --python /opt/aquifer install --no-deps --no-index /wheels/*.whl

FROM ${BASE}
# A new volume gets the owner of the folder on which it is first mounted.
RUN groupadd --gid 10001 aquifer \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent aquifer \
 && install -d -o aquifer -g aquifer -m 0700 /data \
        /out/steps /out/auth /out/ingest /out/query /out/inference /out/nats /out/nats-store \
 && install -d -o aquifer -g aquifer -m 0755 /out/postgres /out/qdrant
COPY --from=build /opt/aquifer /opt/aquifer
COPY deploy/prepare.py /opt/prepare.py
ENV PATH=/opt/aquifer/bin:$PATH PYTHONUNBUFFERED=1
USER 10001:10001
ENTRYPOINT ["python", "/opt/prepare.py"]
