# One image for each service that needs no engine: ingest, query, auth, and the vector process.
#   docker build -f deploy/service.Dockerfile --build-arg BASE=python:3.12-slim --build-arg SERVICE=ingest .
# BASE is any image with Python 3.11 or newer; mirrors and air-gapped sites name their own.
ARG BASE=python:3.12-slim
FROM ${BASE} AS build
ARG SERVICE
ARG PIP_INDEX_URL
WORKDIR /src
RUN python3 -m venv /opt/tools && /opt/tools/bin/pip install --no-cache-dir uv==0.13.8
RUN python3 -m venv /opt/aquifer
COPY requirements.txt .
RUN /opt/tools/bin/uv pip install --python /opt/aquifer --no-deps --require-hashes -r requirements.txt
COPY packages packages
COPY services services
RUN /opt/tools/bin/uv pip install --python /opt/aquifer --no-deps \
    ./packages/contracts ./packages/chassis ./services/${SERVICE}

FROM ${BASE}
ARG SERVICE
ENV PATH=/opt/aquifer/bin:$PATH PYTHONUNBUFFERED=1 AQUIFER_SERVICE=${SERVICE} AQUIFER_LISTEN=0.0.0.0:50051
RUN useradd --system --uid 10001 aquifer && install -d -o aquifer /var/lib/aquifer
COPY --from=build /opt/aquifer /opt/aquifer
USER aquifer
EXPOSE 50051 9464
ENTRYPOINT ["/bin/sh", "-c", "exec python -m \"$AQUIFER_SERVICE\" \"$@\"", "aquifer"]
CMD ["serve"]
