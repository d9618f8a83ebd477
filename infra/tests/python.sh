# shellcheck shell=bash
# Sourced, in the directory of the checkout: leaves in `python` a Python that can run make_ticks.py.
# shellcheck disable=SC2034
python=$PWD/target/host/python/bin/python
if ! cmp -s infra/tests/requirements-host.txt target/host/python/requirements.txt; then
    rm -rf target/host/python
    mkdir -p target/host
    python3 -m venv target/host/python &&
        target/host/python/bin/pip install --quiet --disable-pip-version-check -r infra/tests/requirements-host.txt &&
        cp infra/tests/requirements-host.txt target/host/python/
    # The last command's status is that of all three, also where bash does not end at the first failure.
fi
