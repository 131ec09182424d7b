# syntax=docker/dockerfile:1
FROM debian:bookworm
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]

RUN <<EOF
apt-get update
# this is the shell's comment, and \
apt-get install -y curl
rm -rf /var/lib/apt/lists/*
EOF

RUN <<'PYTHON'
#!/usr/bin/env python3
print("$not expanded", '\n')
PYTHON

RUN cat <<A > /a && cat <<"B" > /b
first $HOME
A
second $HOME
B

COPY <<-nginx.conf <<"empty" /etc/
	server {
		listen 80;
		root ${ROOT:-/var/www};
	}
	nginx.conf
empty

ADD <<EOF /etc/motd
it's "$USER"
EOF

ONBUILD RUN <<SCRIPT
echo built
SCRIPT
CMD bash -l
