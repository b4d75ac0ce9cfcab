#!/bin/sh
# Keeps one node in the cluster, from beside it: it meets the others, forgets those that came back under
# another identity, and holds its share of the slots. All of it may be done any number of times.
#
#   PEERS      HOST:PORT of every node, in order
#   INDEX      which of them this is, from 0
#   REDISCLI_AUTH  the password of the user `operator`
set -u

cli() { redis-cli -h "${own%:*}" -p "${own#*:}" --no-auth-warning --user operator "$@"; }

position=0
for peer in $PEERS; do
  [ "$position" = "$INDEX" ] && own=127.0.0.1:${peer#*:}
  position=$((position + 1))
done
first=$((16384 * INDEX / position))
last=$((16384 * (INDEX + 1) / position - 1))

while true; do
  for peer in $PEERS; do
    address=$(getent hosts "${peer%:*}" | awk '{print $1; exit}')
    [ -n "$address" ] && cli cluster meet "$address" "${peer#*:}" >/dev/null
  done
  nodes=$(cli cluster nodes)
  # A node whose volume is gone has a new identity under its old name: the old one only holds its slots.
  echo "$nodes" | awk '
    { split($2, place, ","); name = place[2] }
    $3 ~ /(^|,)(fail|noaddr)(,|$)/ { dead[$1] = name; next }
    { alive[name] = 1 }
    END { for (id in dead) if (dead[id] != "" && dead[id] in alive) print id }' |
    while read -r id; do cli cluster forget "$id" >/dev/null; done
  # Fields from the ninth on are slots.
  if echo "$nodes" | awk '$3 ~ /myself/ && NF < 9 { found = 1 } END { exit !found }'; then
    cli cluster addslotsrange "$first" "$last" >/dev/null
  fi
  sleep 5
done
