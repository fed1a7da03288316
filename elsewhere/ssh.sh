#!/usr/bin/env bash
# One run on machines that are reached by SSH and see this folder at the same path.
#
#     elsewhere/ssh.sh RUN HOST...       as many hosts as its launch.nodes; the first one is number 0
#
# The first one's name must be one that the others reach it by, with port 29500 (or MASTER_PORT) open to them.
set -euo pipefail
if [ "$#" -lt 2 ]; then
  sed -n '2,6s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
run=$1
hosts=("${@:2}")
cd "$(dirname "$0")/.."

on() { # HOST COMMAND...: in this folder, with its packages
  local line
  printf -v line '%q ' env "${@:2}"
  # shellcheck disable=SC2029  # the folder is this one's, the path the host's
  ssh "$1" "cd $(printf %q "$PWD") && PATH=\"\$PWD/.venv/bin:\$PATH\" $line"
}

read -ra needs < <(on "${hosts[0]}" python elsewhere/needs.py "$run")
on "${hosts[0]}" python -m stages repro "${needs[@]}"
began=()
for number in "${!hosts[@]}"; do
  on "${hosts[number]}" NODE_RANK="$number" MASTER_ADDR="${hosts[0]}" MASTER_PORT="${MASTER_PORT:-29500}" \
    python -m stages.train "$run" &
  began+=("$!")
done
for process in "${began[@]}"; do wait "$process"; done
on "${hosts[0]}" dvc commit --force "train@$run"
on "${hosts[0]}" python -m stages repro "evaluate@$run"
