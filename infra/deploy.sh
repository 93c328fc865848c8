#!/bin/sh
# Makes the work pool and its queues, and creates or updates the three deployments; safe to run again at any time.
#
# Needs PREFECT_API_URL, PREFECT_API_AUTH_STRING, TOURNAMENT_DATA and TOURNAMENT_OUT (directory or s3://…).
# The limit of the queue `resolve` is what keeps two runs from publishing at once: the weekly run and a backfill are two
# deployments, and a limit on a deployment counts its own runs only. It is set anew each time, also after somebody
# cleared it by hand. A pool or queue that is paused stays paused.
set -eu
cd "$(dirname "$0")/.."

python -m infra.prefect_file infra/prefect.yaml

prefect work-pool inspect stakeweight >/dev/null 2>&1 || prefect work-pool create stakeweight --type process
for queue in resolve score; do
  prefect work-queue inspect "$queue" --pool stakeweight >/dev/null 2>&1 ||
    prefect work-queue create "$queue" --pool stakeweight
  prefect work-queue set-concurrency-limit "$queue" 1 --pool stakeweight
done

# Always all: a deployment that is deployed alone may take over the parameters of another one of the file.
prefect --no-prompt deploy --all --prefect-file infra/prefect.yaml
