# syntax=docker/dockerfile:1.7
ARG PYTHON=3.11
ARG DEBIAN=bookworm

# base has the interpreter and the account everything runs as
FROM debian:${DEBIAN}-slim AS base
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    # the virtual environment comes first
    PATH="/opt/venv/bin:$PATH"
RUN apt-get update \
 && apt-get install -y --no-install-recommends \
      ca-certificates \
      python3 \

      python3-venv \
 && rm -rf /var/lib/apt/lists/*
RUN groupadd --system app && useradd --system --gid app --home-dir /srv app

FROM base AS wheels
WORKDIR /build
COPY requirements*.txt ./
RUN --mount=type=cache,target=/root/.cache/pip,sharing=locked \
    --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    python3 -m venv /opt/venv && pip install -r requirements.txt

FROM base
ARG PYTHON
LABEL org.opencontainers.image.title="web" \
      org.opencontainers.image.description='A "quoted" service' \
      python=$PYTHON
COPY --from=wheels --chown=app:app /opt/venv /opt/venv
COPY --chown=app:app . /srv/
WORKDIR /srv
USER app:app
EXPOSE 8000/tcp
HEALTHCHECK --interval=30s --timeout=3s --start-period=5s --retries=3 \
  CMD ["python3", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health')"]
ENTRYPOINT ["gunicorn"]
CMD ["--bind", "0.0.0.0:8000", "app:app"]
