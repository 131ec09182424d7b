#!/bin/sh
# Makes the database `notes` and its user on the first start, then runs the server.
set -e
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    initdb --username=notes --pwfile=/run/secrets/db_password --auth=scram-sha-256 --encoding=UTF8 >/dev/null
    echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
    # A server that only listens on a socket, so that nobody takes it for ready.
    pg_ctl --silent --wait -o "-c listen_addresses='' -k /tmp" start
    PGPASSWORD=$(cat /run/secrets/db_password) createdb -h /tmp -U notes notes
    pg_ctl --silent --wait --mode=fast stop
fi
exec postgres -c listen_addresses='*' -k /tmp
