# The api: no model, no compiler. From the repository's root:
#   docker build -f deploy/api.Dockerfile -t caravan-api .
FROM python:3.12-slim
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /caravan
COPY requirements-run.lock ./
RUN pip install -q --require-hashes -r requirements-run.lock
COPY . .
RUN pip install -q --no-deps --no-build-isolation . && useradd --create-home caravan
USER caravan
ENV CARAVAN_HOST=0.0.0.0
EXPOSE 12434
HEALTHCHECK --interval=5s --start-period=10s CMD ["python", "-c", \
    "import urllib.request as u; u.urlopen('http://127.0.0.1:12434/health', timeout=3)"]
ENTRYPOINT ["caravan", "api"]
