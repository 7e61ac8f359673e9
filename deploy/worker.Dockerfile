# A worker for CPUs, with the default model in it. From the repository's root:
#   docker build -f deploy/worker.Dockerfile -t caravan-worker .
# llama.cpp is compiled for the CPU of the machine that builds. For an image that runs on any
# x86-64 of the last ten years add:
#   --build-arg CMAKE_ARGS="-DGGML_AVX512=OFF -DGGML_AVX512_VBMI=OFF -DGGML_AVX512_VNNI=OFF -DGGML_AVX512_BF16=OFF"
FROM python:3.12-slim AS build
RUN apt-get update -q && apt-get install -q -y --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /caravan
RUN python -m venv /venv
COPY requirements-run.lock ./
RUN /venv/bin/pip install -q --require-hashes -r requirements-run.lock
ARG CMAKE_ARGS=""
COPY deploy/build_llama.py deploy/
RUN CMAKE_ARGS="$CMAKE_ARGS" /venv/bin/python deploy/build_llama.py install
COPY deploy/default_model.py deploy/
RUN CARAVAN_DATA_DIR=/data /venv/bin/python deploy/default_model.py
COPY . .
RUN /venv/bin/pip install -q --no-deps --no-build-isolation .

FROM python:3.12-slim
RUN apt-get update -q && apt-get install -q -y --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* && useradd --create-home caravan
COPY --from=build /venv /venv
COPY --from=build --chown=caravan /data /data
USER caravan
ENV PYTHONUNBUFFERED=1 PATH=/venv/bin:$PATH CARAVAN_DATA_DIR=/data
ENTRYPOINT ["caravan", "worker"]
