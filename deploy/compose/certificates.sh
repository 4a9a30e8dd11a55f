#!/bin/sh
# Certificates for compose.tls.yaml: an authority of this machine's own, and one for each process.
#
#   sh deploy/compose/certificates.sh [DAYS]      # how long they hold; 365 if not given
#
# They are made in certificates/ beside this file, or in PHARMALOOP_CERTIFICATES. Given again, it issues all anew by
# the same authority, and running processes take them at once. Needs openssl.
set -eu

days=${1:-365}
case $days in
  '' | *[!0-9]* | 0*) echo "certificates: DAYS is a number of days from 1, not '$days'" >&2; exit 2 ;;
esac
command -v openssl > /dev/null || { echo "certificates: openssl is not here; install it" >&2; exit 2; }

# Whom others call, by container; and who only calls: the portal, the simulated industry, the command line.
servers="production traceability clinical clinical-hospital-b clinical-hospital-c alerting rnd loops exchange
agent agent-hospital-b agent-hospital-c evaluator"
callers="portal world command"

folder=${PHARMALOOP_CERTIFICATES:-$(dirname "$0")/certificates}
# Containers read their own part as another user: the folder around all of them is closed to others instead.
umask 022
mkdir -p "$folder/authority"
chmod 700 "$folder" "$folder/authority"
work=$(mktemp -d "$folder/.work-XXXXXX")
trap 'rm -rf "$work"' EXIT

curve="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
ca=$folder/authority
if ! [ -s "$ca/ca.crt" ]; then
  cat > "$work/ca.conf" << 'CONF'
[req]
distinguished_name = name
x509_extensions = authority
prompt = no
[name]
CN = PharmaLoop on this machine
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
CONF
  # shellcheck disable=SC2086
  (umask 077 && openssl req -x509 $curve -days 3650 -config "$work/ca.conf" -keyout "$ca/ca.key" -out "$work/ca.crt" 2> "$work/said") ||
    { cat "$work/said" >&2; exit 1; }
  chmod 644 "$work/ca.crt"
  mv "$work/ca.crt" "$ca/ca.crt"
fi

issue() { # NAME USAGE [ALTERNATIVE NAMES]
  mkdir -p "$folder/$1"
  {
    echo "basicConstraints = critical, CA:FALSE"
    echo "keyUsage = critical, digitalSignature"
    echo "extendedKeyUsage = $2"
    echo "subjectKeyIdentifier = hash"
    echo "authorityKeyIdentifier = keyid"
    [ -z "${3:-}" ] || echo "subjectAltName = $3"
  } > "$work/ext"
  # shellcheck disable=SC2086
  if ! { openssl req -new $curve -subj "/CN=$1" -keyout "$work/tls.key" -out "$work/csr" &&
    openssl x509 -req -in "$work/csr" -CA "$ca/ca.crt" -CAkey "$ca/ca.key" -set_serial "0x1$(openssl rand -hex 15)" \
      -sha256 -days "$days" -extfile "$work/ext" -out "$work/tls.crt"; } > "$work/said" 2>&1; then
    cat "$work/said" >&2
    exit 1
  fi
  cp "$ca/ca.crt" "$work/ca.crt"
  chmod 644 "$work/tls.key" "$work/tls.crt" "$work/ca.crt"
  for file in tls.key tls.crt ca.crt; do mv "$work/$file" "$folder/$1/$file"; done
}

for name in $servers; do
  issue "$name" "serverAuth, clientAuth" "DNS:$name, DNS:localhost, IP:127.0.0.1"
done
for name in $callers; do
  issue "$name" clientAuth
done
echo "certificates: in $folder, for $days days"
