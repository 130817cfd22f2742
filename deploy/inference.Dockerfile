# Inference with the MiniLM engine on the CPU. GPU engines get an image of their own.
#   docker build -f deploy/inference.Dockerfile --build-arg BASE=python:3.12-slim .
ARG BASE=python:3.12-slim
FROM ${BASE} AS build
ARG PIP_INDEX_URL
WORKDIR /src
RUN python3 -m venv /opt/tools && /opt/tools/bin/pip install --no-cache-dir uv==0.13.8
RUN python3 -m venv /opt/aquifer
COPY requirements.txt .
RUN /opt/tools/bin/uv pip install --python /opt/aquifer --no-deps --require-hashes -r requirements.txt
COPY packages packages
COPY services services
RUN /opt/tools/bin/uv pip install --python /opt/aquifer --no-deps \
    ./packages/contracts ./packages/chassis ./services/inference

FROM ${BASE}
ENV PATH=/opt/aquifer/bin:$PATH PYTHONUNBUFFERED=1 AQUIFER_LISTEN=0.0.0.0:50051
RUN useradd --system --uid 10001 aquifer
COPY --from=build /opt/aquifer /opt/aquifer
USER aquifer
EXPOSE 50051 9464
ENTRYPOINT ["python", "-m", "inference"]
CMD ["serve"]
