# Old style, as found in the wild.
from ubuntu:14.04
maintainer Somebody <somebody@example.com>

env DEBIAN_FRONTEND noninteractive
env HOME /root
run apt-get update && apt-get -y install python-software-properties; \
    add-apt-repository ppa:x/y
  # indented comment
run echo "#not a comment" > /x # also not one
add https://example.com/big.tar.xz /usr/src/things/
add rootfs.tar.gz /
volume /data /logs
expose 80 443 8000-8005/udp
user nobody
workdir data
cmd python -m SimpleHTTPServer
onbuild add . /app
onbuild run make -C /app
