#!/usr/bin/env -S buildtool build -f
# syntax=docker/dockerfile:1
# escape=\
# check=skip=SecretsUsedInArgOrEnv

# ALPINE is the base's version
ARG ALPINE=3.20
ARG REGISTRY=docker.io/library IMAGE=${REGISTRY}/alpine:${ALPINE}

# tools are built once
FROM --platform=${BUILDPLATFORM:-linux/amd64} ${IMAGE} AS tools
ARG HTTP_PROXY
ARG GREETING="hello \"world\"" EMPTY= UNSET
ENV A=1 B=${A:-x} C='single $A' D=back\ slash E="tab\	in" F="${GREETING%% *}"
ENV G="${H:?H must be set}"
ADD --checksum=sha256:24454f830cdb571e2c4ad15481119c43b3cafd48dd869a9b2945d1036d1dc68d https://example.com/x.tar.gz /x/
ADD --keep-git-dir=true https://github.com/moby/buildkit.git#v0.10.1:docs /docs
ADD --unpack=false --link --chown=0:0 --chmod=u=rwX,go=rX archive.tar /archive/
COPY --parents --exclude=**/*_test.go --exclude=vendor ./src/./pkg/**/*.go /go/
COPY --from=nginx:1.27 /etc/nginx/nginx.conf /etc/nginx/
RUN --security=insecure --device=vendor.example/gpu=all,required --mount=type=ssh,required git clone git@example.com:x/y
RUN --mount=type=tmpfs,target=/tmp,size=64m --mount=from=tools,source=/x,target=/x,rw -- --odd-command
RUN ["/bin/sh", "-c", "echo \"exec form\" é \u00e9"]
RUN [ -f /etc/passwd ] && echo "no json"

FROM scratch AS Final
COPY --from=tools / /
LABEL multi.line="a \
b" "quoted key"=v
HEALTHCHECK NONE
ENTRYPOINT []
CMD []
STOPSIGNAL 9
USER ${UID:-1000}
WORKDIR "/with blanks"
EXPOSE $PORT 53/UDP
