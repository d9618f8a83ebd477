#!/usr/bin/env bash
# Tests infra/database without a cloud and without a server: `make test-infra`. A tool that the machine lacks is named
# in one line, and what needs it is skipped. BTC_INGEST_TERRAFORM_PLUGINS names a folder with Terraform's AWS provider,
# where it cannot be downloaded.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=$PWD/target/infra
terraform=infra/database/terraform
mkdir -p "$out"

step() { printf '\n== %s\n' "$*"; }
skip() { printf '   skipped: %s\n' "$*"; }

# Makes a virtual environment, or keeps the one that has these requirements already.
environment() {
    local directory=$out/$1 requirements=infra/tests/$2
    if ! cmp -s "$requirements" "$directory/requirements.txt"; then
        rm -rf "$directory"
        # Chained, because bash does not end a function at its first failure where its result is asked for.
        python3 -m venv "$directory" &&
            "$directory/bin/pip" install --quiet --disable-pip-version-check -r "$requirements" &&
            cp "$requirements" "$directory/requirements.txt"
    fi
}

# Where a provider may stand without a download: the folder that is named, and Terraform's own places.
provider_folder() {
    local folder
    for folder in ${BTC_INGEST_TERRAFORM_PLUGINS:+"$BTC_INGEST_TERRAFORM_PLUGINS"} ~/.terraform.d/plugins \
        /usr/local/share/terraform/plugins /usr/share/terraform/plugins /opt/*; do
        if compgen -G "$folder/*/hashicorp/aws/*" >/dev/null; then echo "$folder"; return; fi
    done
}

# Terraform writes into the folder it works in, so it works in a copy.
evaluate() {
    local copy=$out/copy folder options=()
    folder=$(provider_folder)
    [ -z "$folder" ] || options=("-plugin-dir=$folder")
    rm -rf "$copy" && mkdir "$copy" && cp -r infra/database/terraform infra/database/scripts "$copy"
    if ! timeout 120 terraform -chdir="$copy/terraform" init -backend=false -input=false "${options[@]}" \
        >"$out/init.log" 2>&1; then
        skip "terraform validate and test: no AWS provider; BTC_INGEST_TERRAFORM_PLUGINS names a folder with it"
        return
    fi
    terraform -chdir="$copy/terraform" validate -no-color
    terraform -chdir="$copy/terraform" test -no-color
}

step 'Terraform'
if command -v terraform >/dev/null; then
    export TF_CLI_CONFIG_FILE=/dev/null CHECKPOINT_DISABLE=1
    terraform -chdir="$terraform" fmt -check -recursive -diff
    evaluate
else
    skip 'terraform fmt, validate and test: there is no terraform'
fi

step 'checkov'
if environment checkov requirements-checkov.txt; then
    "$out/checkov/bin/checkov" --directory "$terraform" --framework terraform --quiet --compact --skip-download
else
    skip 'checkov: it cannot be installed'
fi

step 'Scripts'
if command -v shellcheck >/dev/null; then
    find infra scripts -name '*.sh' -not -path '*/lib/*' -print0 | xargs -0 shellcheck -x -a -P SCRIPTDIR
else
    skip 'shellcheck: it is not installed'
fi
environment python requirements.txt
"$out/python/bin/pytest" -q -p no:cacheprovider infra/tests
