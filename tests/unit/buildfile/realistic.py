# ruff: noqa: E501
"""Dockerfiles as people write them for eleven kinds of programs, each in a few ways: `FILES` by name.

A way is a set of replacements: another base, another package manager, another habit of writing.
"""

from __future__ import annotations

import itertools

PYTHON = """\
# syntax=docker/dockerfile:1
ARG PYTHON=3.12
FROM python:${PYTHON}-<flavour> AS base
ENV PYTHONUNBUFFERED=1 \\
    PYTHONDONTWRITEBYTECODE=1 \\
    PIP_NO_CACHE_DIR=<nocache>
WORKDIR /srv

FROM base AS wheels
<packages>
COPY requirements*.txt pyproject.tom[l] ./
RUN --mount=type=cache,target=/root/.cache/pip \\
    pip wheel --wheel-dir /wheels -r requirements.txt

# app is what is shipped
FROM base AS app
RUN <adduser>
COPY --from=wheels /wheels /wheels
RUN pip install --no-index --find-links=/wheels /wheels/* && rm -rf /wheels
COPY --chown=app:app . .
USER app
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=3s CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000')"]
<start>
"""
PYTHON_WAYS = {
    "debian": {
        "flavour": "slim-bookworm",
        "nocache": "off",
        "packages": "RUN apt-get update \\\n && apt-get install -y --no-install-recommends gcc libpq-dev \\\n"
        " && rm -rf /var/lib/apt/lists/*",
        "adduser": "useradd --create-home --uid 10001 app",
        "start": 'CMD ["gunicorn", "-b", "0.0.0.0:8000", "app:create()"]',
    },
    "alpine": {
        "flavour": "alpine",
        "nocache": "1",
        "packages": "RUN apk add --no-cache build-base postgresql-dev",
        "adduser": "adduser -D -u 10001 app",
        "start": 'ENTRYPOINT ["uvicorn"]\nCMD ["app:api", "--host", "0.0.0.0", "--port", "8000"]',
    },
    "careless": {
        "flavour": "latest",
        "nocache": "yes",
        "packages": "RUN apt-get update\nRUN apt-get -y install gcc",
        "adduser": "groupadd app && useradd -g app app",
        "start": "CMD python manage.py migrate && python manage.py runserver 0.0.0.0:8000",
    },
}

NODE = """\
FROM node:<version> AS deps
WORKDIR /app
COPY package.json <lock> ./
RUN --mount=type=cache,id=<tool>,target=<store> <install>

FROM deps AS build
ENV NODE_ENV=development
COPY tsconfig*.json ./
COPY src/ src/
RUN <run> build

FROM deps AS test
COPY . .
RUN <run> lint && <run> test -- --ci

FROM node:<version>-slim
ENV NODE_ENV=production \\
    PORT=3000
WORKDIR /app
COPY --link --from=build --chown=1000:1000 /app/dist ./dist
COPY --link --from=deps --chown=1000:1000 /app/node_modules ./node_modules
COPY package.json .
USER node
EXPOSE $PORT
STOPSIGNAL SIGINT
CMD ["node", "--enable-source-maps", "dist/server.js"]
"""
NODE_WAYS = {
    "npm": {
        "version": "20",
        "lock": "package-lock.json",
        "tool": "npm",
        "store": "/root/.npm",
        "install": "npm ci",
        "run": "npm run",
    },
    "yarn": {
        "version": "18",
        "lock": "yarn.lock .yarnr[c]",
        "tool": "yarn",
        "store": "/usr/local/share/.cache",
        "install": "yarn install --frozen-lockfile",
        "run": "yarn",
    },
    "pnpm": {
        "version": "22",
        "lock": "pnpm-lock.yaml",
        "tool": "pnpm",
        "store": "/pnpm/store",
        "install": "corepack enable && pnpm install --frozen-lockfile",
        "run": "pnpm",
    },
}

GO = """\
FROM --platform=$BUILDPLATFORM golang:<version> AS build
ARG TARGETOS TARGETARCH
ARG VERSION=dev
WORKDIR /src
<modules>
RUN --mount=type=bind,target=. \\
    --mount=type=cache,target=/root/.cache/go-build \\
    CGO_ENABLED=<cgo> GOOS=$TARGETOS GOARCH=$TARGETARCH \\
    go build -trimpath -ldflags="-s -w -X main.version=${VERSION}" -o /out/<name> ./cmd/<name>

FROM build AS test
RUN --mount=type=bind,target=. go test ./...

FROM <base>
LABEL org.opencontainers.image.title="<name>" \\
      org.opencontainers.image.source=https://example.org/<name>
COPY --from=build /out/<name> /usr/local/bin/<name>
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/<name>"]
"""
GO_WAYS = {
    "static": {
        "version": "1.22",
        "cgo": "0",
        "name": "ferry",
        "base": "scratch",
        "modules": "COPY go.mod go.sum ./\nRUN go mod download",
    },
    "glibc": {
        "version": "1.21-bookworm",
        "cgo": "1",
        "name": "heron",
        "base": "debian:bookworm-slim",
        "modules": "RUN --mount=type=bind,source=go.mod,target=go.mod --mount=type=bind,source=go.sum,target=go.sum go mod download -x",
    },
    "vendored": {
        "version": "1.23-alpine",
        "cgo": "0",
        "name": "otter",
        "base": "gcr.io/distroless/static:nonroot",
        "modules": "ENV GOFLAGS=-mod=vendor",
    },
}

RUST = """\
ARG RUST=1.79
FROM rust:${RUST}<flavour> AS chef
RUN cargo install cargo-chef --locked
WORKDIR /work

FROM chef AS plan
COPY . .
RUN cargo chef prepare --recipe-path recipe.json

FROM chef AS build
COPY --from=plan /work/recipe.json .
RUN cargo chef cook --release <target> --recipe-path recipe.json
COPY . .
ENV SQLX_OFFLINE=true RUSTFLAGS="<flags>"
RUN cargo build --release --locked <target>

FROM <base>
COPY --from=build /work/target/<path>release/server /bin/server
EXPOSE 8080/tcp 9090/udp
VOLUME ["/data", "/var/log/server"]
ENTRYPOINT ["/bin/server", "--config", "/etc/server.toml"]
"""
RUST_WAYS = {
    "gnu": {
        "flavour": "-bookworm",
        "target": "--bin server",
        "flags": "-C target-cpu=x86-64-v2",
        "base": "debian:bookworm-slim",
        "path": "",
    },
    "musl": {
        "flavour": "-alpine",
        "target": "--target x86_64-unknown-linux-musl",
        "flags": "-C strip=symbols",
        "base": "scratch",
        "path": "x86_64-unknown-linux-musl/",
    },
}

JAVA = """\
FROM <builder> AS build
WORKDIR /build
<resolve>
COPY src ./src
RUN <package>
RUN java -Djarmode=layertools -jar <jar> extract --destination /layers

FROM eclipse-temurin:<java>-jre
ARG USER=spring
RUN groupadd --system $USER && useradd --system --gid $USER $USER
USER $USER:$USER
WORKDIR /app
COPY --from=build /layers/dependencies/ ./
COPY --from=build /layers/spring-boot-loader/ ./
COPY --from=build /layers/snapshot-dependencies/ ./
COPY --from=build /layers/application/ ./
ENV JAVA_TOOL_OPTIONS="-XX:MaxRAMPercentage=75 -Dfile.encoding=UTF-8"
EXPOSE 8080 8443
ENTRYPOINT ["java", "org.springframework.boot.loader.launch.JarLauncher"]
"""
JAVA_WAYS = {
    "maven": {
        "builder": "maven:3.9-eclipse-temurin-21",
        "java": "21",
        "jar": "target/*.jar",
        "resolve": "COPY pom.xml .\nRUN --mount=type=cache,target=/root/.m2 mvn -B dependency:go-offline",
        "package": "--mount=type=cache,target=/root/.m2 mvn -B -DskipTests package",
    },
    "gradle": {
        "builder": "gradle:8-jdk17",
        "java": "17",
        "jar": "build/libs/app.jar",
        "resolve": "COPY gradle gradle\nCOPY gradlew *.gradle.kts gradle.properties ./",
        "package": "--mount=type=secret,id=gradle.properties,target=/root/.gradle/gradle.properties ./gradlew --no-daemon bootJar",
    },
}

RUBY = """\
ARG RUBY_VERSION=3.3.1
FROM ruby:$RUBY_VERSION-<flavour> AS base
WORKDIR /rails
ENV RAILS_ENV=production BUNDLE_PATH=/usr/local/bundle BUNDLE_WITHOUT="development:test"

FROM base AS build
RUN <packages>
COPY Gemfile Gemfile.lock ./
RUN bundle install --jobs "$(nproc)" \\
    # what only the installation needs
 && rm -rf ~/.bundle/ "${BUNDLE_PATH}"/ruby/*/cache \\

 && bundle exec bootsnap precompile --gemfile
COPY . .
RUN SECRET_KEY_BASE_DUMMY=1 ./bin/rails assets:precompile

FROM base
COPY --from=build /usr/local/bundle /usr/local/bundle
COPY --from=build --chown=1000 /rails /rails
USER 1000:1000
ENTRYPOINT ["/rails/bin/docker-entrypoint"]
EXPOSE <port>
CMD ["./bin/rails", "server"]
"""
RUBY_WAYS = {
    "slim": {
        "flavour": "slim",
        "port": "3000",
        "packages": "apt-get update -qq && apt-get install -y build-essential git pkg-config",
    },
    "alpine": {"flavour": "alpine", "port": "3000-3001", "packages": "apk add --no-cache build-base git tzdata"},
}

PHP = """\
FROM composer:2 AS vendor
COPY composer.json composer.lock /app/
RUN composer install --no-dev --no-scripts --prefer-dist --ignore-platform-reqs

FROM php:<version>
<shell>
RUN docker-php-ext-install pdo_mysql opcache
COPY <<EOF /usr/local/etc/php/conf.d/zz-app.ini
memory_limit = ${MEMORY:-256M}
opcache.enable = 1
EOF
COPY --from=vendor /app/vendor /var/www/html/vendor
COPY --chown=www-data:www-data --exclude=tests --exclude=**/*.md . /var/www/html
<rest>
"""
PHP_WAYS = {
    "apache": {
        "version": "8.3-apache",
        "shell": 'SHELL ["/bin/bash", "-euo", "pipefail", "-c"]',
        "rest": "RUN a2enmod rewrite | tee /tmp/log\nEXPOSE 80",
    },
    "fpm": {
        "version": "8.2-fpm-alpine",
        "shell": "STOPSIGNAL SIGQUIT",
        "rest": 'VOLUME /var/www/html/storage\nUSER www-data\nEXPOSE 9000\nCMD ["php-fpm", "-F"]',
    },
}

NGINX = """\
FROM node:20-alpine AS site
WORKDIR /site
COPY . .
RUN npm ci && npm run build

FROM <base>
RUN rm -f /etc/nginx/conf.d/default.conf
COPY <<'CONF' /etc/nginx/<path>
server {
    listen <port>;
    root /usr/share/nginx/html;
    location / { try_files $uri $uri/ /index.html; }
    # the $variables are nginx's
}
CONF
COPY --from=site /site/<out> /usr/share/nginx/html
EXPOSE <port>
HEALTHCHECK --start-period=5s --retries=5 CMD wget -qO- http://localhost:<port>/ >/dev/null || exit 1
"""
NGINX_WAYS = {
    "plain": {"base": "nginx:1.27-alpine", "path": "conf.d/site.conf", "port": "80", "out": "dist"},
    "template": {"base": "nginx:stable", "path": "templates/site.conf.template", "port": "8080", "out": "build/"},
    "unprivileged": {
        "base": "nginxinc/nginx-unprivileged",
        "path": "conf.d/default.conf",
        "port": "8080",
        "out": "public",
    },
}

DOTNET = """\
FROM mcr.microsoft.com/dotnet/sdk:<version> AS build
ARG CONFIGURATION=Release
WORKDIR /src
COPY *.sln ./
COPY --parents src/*/*.csproj ./
RUN dotnet restore
COPY . .
RUN dotnet publish src/Shop -c $CONFIGURATION -o /app <options>

FROM mcr.microsoft.com/dotnet/<runtime>:<version>
WORKDIR /app
COPY --from=build /app .
ENV ASPNETCORE_URLS=http://+:8080 DOTNET_gcServer=1
EXPOSE 8080
ENTRYPOINT <entry>
"""
DOTNET_WAYS = {
    "framework": {
        "version": "8.0",
        "options": "--no-restore",
        "runtime": "aspnet",
        "entry": '["dotnet", "Shop.dll"]',
    },
    "aot": {
        "version": "9.0-alpine",
        "options": "-p:PublishAot=true",
        "runtime": "runtime-deps",
        "entry": '["./Shop"]',
    },
}

ELIXIR = """\
FROM hexpm/elixir:<version> AS build
ENV MIX_ENV=prod LANG=C.UTF-8
WORKDIR /app
RUN mix local.hex --force && mix local.rebar --force
COPY mix.exs mix.lock ./
COPY config/config.exs config/${MIX_ENV}.exs config/
RUN mix deps.get --only $MIX_ENV && mix deps.compile
COPY lib lib
COPY priv priv
RUN mix compile && mix release

FROM <base>
ONBUILD COPY rel/env.sh /app/env.sh
COPY --from=build --chmod=u=rwX,go=rX /app/_build/prod/rel/shop /app
ENV PATH="/app/bin:${PATH}" HOME=/app
CMD ["shop", "start"]
"""
ELIXIR_WAYS = {
    "debian": {"version": "1.16.2-erlang-26.2-debian-bookworm", "base": "debian:bookworm-slim"},
    "alpine": {"version": "1.15.7-erlang-26.1-alpine-3.18", "base": "alpine:3.18"},
}

TOOLBOX = """\
from <base> as tools
maintainer Somebody <somebody@example.org>
env tool_dir /opt/tools
add <archive> /opt/tools/
run set -eux; \\
    for tool in a b c; do \\
        ln -s "$tool_dir/$tool" "/usr/local/bin/$tool"; \\
    done
workdir /work
volume /work
onbuild copy . /work
onbuild run make <goal>
entrypoint exec "$0" "$@"
cmd <goal>
"""
TOOLBOX_WAYS = {
    "old": {"base": "ubuntu:14.04", "archive": "tools.tar.gz", "goal": "all"},
    "older": {"base": "centos:6", "archive": "a.tgz b.tar.xz", "goal": "install"},
}

KINDS = {
    "python": (PYTHON, PYTHON_WAYS),
    "node": (NODE, NODE_WAYS),
    "go": (GO, GO_WAYS),
    "rust": (RUST, RUST_WAYS),
    "java": (JAVA, JAVA_WAYS),
    "ruby": (RUBY, RUBY_WAYS),
    "php": (PHP, PHP_WAYS),
    "nginx": (NGINX, NGINX_WAYS),
    "dotnet": (DOTNET, DOTNET_WAYS),
    "elixir": (ELIXIR, ELIXIR_WAYS),
    "toolbox": (TOOLBOX, TOOLBOX_WAYS),
}


def _filled(template: str, way: dict[str, str]) -> str:
    for name, text in way.items():
        template = template.replace(f"<{name}>", text)
    return template


def _rewritten(text: str, habit: str) -> str:
    """The same file by somebody else: with DOS line ends, without a final newline, with a comment on top."""
    if habit == "dos":
        return text.replace("\n", "\r\n")
    if habit == "cut":
        return text.rstrip("\n")
    if habit == "commented":
        return f"# written by hand\n\n{text}"
    return text


FILES = {
    f"{kind}, {way}, {habit}": _rewritten(_filled(template, ways[way]), habit)
    for kind, (template, ways) in KINDS.items()
    for way, habit in itertools.product(ways, ("plain", "dos", "cut", "commented"))
}
