# A worker for NVIDIA GPUs, with the default model in it. From the repository's root:
#   docker build -f deploy/worker-cuda.Dockerfile -t caravan-worker-cuda .
# Compiling for every generation of GPUs takes long; for one (here: Hopper) add:
#   --build-arg CMAKE_ARGS="-DGGML_CUDA=on -DCMAKE_CUDA_ARCHITECTURES=90"
ARG CUDA=12.8.1
FROM nvidia/cuda:${CUDA}-devel-ubuntu24.04 AS build
RUN apt-get update -q && apt-get install -q -y --no-install-recommends g++ python3-venv \
    && rm -rf /var/lib/apt/lists/*
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /caravan
RUN python3 -m venv /venv
COPY requirements-run.lock ./
RUN /venv/bin/pip install -q --require-hashes -r requirements-run.lock
ARG CMAKE_ARGS="-DGGML_CUDA=on"
COPY deploy/build_llama.py deploy/
# The build machine has no driver: libcuda is found when the worker starts.
RUN CMAKE_ARGS="$CMAKE_ARGS -DCMAKE_EXE_LINKER_FLAGS=-Wl,--allow-shlib-undefined" \
    /venv/bin/python deploy/build_llama.py install
COPY deploy/default_model.py deploy/
RUN CARAVAN_DATA_DIR=/data /venv/bin/python deploy/default_model.py
COPY . .
RUN /venv/bin/pip install -q --no-deps --no-build-isolation .

FROM nvidia/cuda:${CUDA}-runtime-ubuntu24.04
RUN apt-get update -q && apt-get install -q -y --no-install-recommends libgomp1 python3 \
    && rm -rf /var/lib/apt/lists/* && useradd --create-home caravan
COPY --from=build /venv /venv
COPY --from=build --chown=caravan /data /data
USER caravan
ENV PYTHONUNBUFFERED=1 PATH=/venv/bin:$PATH CARAVAN_DATA_DIR=/data
ENTRYPOINT ["caravan", "worker"]
