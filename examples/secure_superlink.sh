#!/usr/bin/env bash
# A federated run on a SuperLink with TLS whose SuperNodes prove who they are, on one machine.
#
#   examples/secure_superlink.sh FOLDER CLIENTS [fedcl's words ...]
#
# Makes a certificate authority, a certificate for the SuperLink and a key for each SuperNode in
# FOLDER, starts all of them on loopback, runs `fedcl federated` there, and ends what it started.
# On several machines the same commands run where their names say; docs/deployment.md tells which.
set -euo pipefail

if [[ $# -lt 2 ]]; then
    echo "usage: $0 FOLDER CLIENTS [fedcl's words ...]" >&2
    exit 2
fi
mkdir -p "$1"
folder=$(cd "$1" && pwd)
clients=$2
shift 2

export FLWR_HOME=$folder/home FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1
export FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION=1
free_port() { python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
address=127.0.0.1:$(free_port)

# Certificates: an authority of our own, and the SuperLink's certificate, signed by it.
openssl req -x509 -newkey rsa:3072 -nodes -days 30 -subj "/CN=FedCL example authority" \
    -keyout "$folder/ca.key" -out "$folder/ca.crt" 2>/dev/null
openssl req -newkey rsa:3072 -nodes -subj "/CN=127.0.0.1" \
    -keyout "$folder/server.key" -out "$folder/server.csr" 2>/dev/null
openssl x509 -req -in "$folder/server.csr" -CA "$folder/ca.crt" -CAkey "$folder/ca.key" \
    -CAcreateserial -days 30 -extfile <(echo "subjectAltName=IP:127.0.0.1,DNS:localhost") \
    -out "$folder/server.pem" 2>/dev/null

started=()
end_all() { # with the process that each has started, which would stay
    for pid in "${started[@]}"; do
        read -ra pids <<<"$(pgrep -P "$pid" | tr '\n' ' ')$pid"
        kill "${pids[@]}" 2>/dev/null || true
    done
    wait
}
trap end_all EXIT

flower-superlink --ssl-ca-certfile "$folder/ca.crt" --ssl-certfile "$folder/server.pem" \
    --ssl-keyfile "$folder/server.key" --enable-supernode-auth \
    --host 127.0.0.1 --port "${address#*:}" >"$folder/superlink.log" 2>&1 &
started+=($!)
until (exec 3<>"/dev/tcp/${address/://}") 2>/dev/null; do
    kill -0 "${started[0]}" || { echo "the SuperLink ended; see $folder/superlink.log" >&2; exit 1; }
    sleep 0.5
done

mkdir -p "$FLWR_HOME"
printf '[superlink.secure]\naddress = "%s"\nroot-certificates = "%s"\n' \
    "$address" "$folder/ca.crt" >"$FLWR_HOME/config.toml"

# A SuperNode each: its key is registered with the SuperLink before it may join.
for ((i = 0; i < clients; i++)); do
    rm -f "$folder/node-$i" "$folder/node-$i.pub"
    ssh-keygen -q -t ecdsa -b 384 -N "" -C "node $i" -f "$folder/node-$i"
    flwr supernode register "$folder/node-$i.pub" secure >/dev/null
    flower-supernode --superlink "$address" --root-certificates "$folder/ca.crt" \
        --auth-supernode-private-key "$folder/node-$i" \
        --host 127.0.0.1 --port "$(free_port)" >"$folder/node-$i.log" 2>&1 &
    started+=($!)
done

fedcl federated backend=superlink "backend.address=$address" \
    "backend.root_certificates=$folder/ca.crt" "clients=$clients" "$@"
