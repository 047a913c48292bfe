# One image for every role: `docker run mailpulse:0.1.0 ROLE`. Slim, non-root, made for a read-only
# file system: what a role writes goes into its volume (/var/lib/mailpulse) or /tmp.
#
#   docker build -t mailpulse:0.1.0 .
#
# Every package is held to its hash in .ci/lock. Decision: the base image is named by its tag alone.
# A digest is only worth something if the image behind it was looked at, and registries can't be
# reached where this project is tested; one that was copied from elsewhere would be a guess that
# breaks the build or holds an old image for ever. To hold it, give the digest that you looked at:
#   --build-arg PYTHON=3.11-slim-bookworm@sha256:…   (docker buildx imagetools inspect python:…)
# With the pure step compiled (streams/deploy/README.md, «The compiled build»), which needs a C
# compiler from Debian in the stage that builds:
#   --build-arg COMPILED=yes
ARG PYTHON=3.11-slim-bookworm

FROM python:${PYTHON} AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY .ci/lock .ci/lock
COPY .ci/compile.py .ci/compile.py
COPY schemas schemas
COPY ingest ingest
COPY streams streams
COPY analytics analytics
# The versions are the ones that the tests passed with. mailpulse's own wheel is built aside, so that
# what builds it is not in the image; nor is pip, which is only needed to make it.
RUN python -m venv /opt/build && python -m venv --without-pip /opt/mailpulse \
 && /opt/build/bin/pip install --no-cache-dir --require-hashes --only-binary :all: \
      --requirement .ci/lock/build.txt \
 && /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /opt/wheel . \
 && /opt/build/bin/pip --python /opt/mailpulse/bin/python install --no-cache-dir \
      --require-hashes --only-binary :all: \
      --requirement .ci/lock/run.txt --requirement .ci/lock/image.txt \
 && /opt/build/bin/pip --python /opt/mailpulse/bin/python install --no-cache-dir --no-deps \
      /opt/wheel/*.whl \
 && /opt/mailpulse/bin/python -m compileall -q /opt/mailpulse/lib
ARG COMPILED=
RUN test -z "$COMPILED" || { \
      apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev \
      && /opt/build/bin/pip install --no-cache-dir --require-hashes --only-binary :all: \
           --requirement .ci/lock/compiler.txt \
      && /opt/build/bin/python -P .ci/compile.py /opt/mailpulse \
           "$(/opt/mailpulse/bin/python -P -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"; }

FROM python:${PYTHON}
LABEL org.opencontainers.image.title="mailpulse" \
      org.opencontainers.image.licenses="Apache-2.0"
# Nothing to add packages with, nor ensurepip, which has a copy: a container stays what it is.
# The numbers are fixed so that volumes keep their owner over image versions.
RUN rm -rf /usr/local/lib/python3.*/site-packages/* /usr/local/lib/python3.*/ensurepip \
 && groupadd --gid 10001 mailpulse \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/mailpulse mailpulse \
 && install -d -o 10001 -g 10001 -m 0750 /var/lib/mailpulse /etc/mailpulse
COPY --from=build /opt/mailpulse /opt/mailpulse
ENV PATH=/opt/mailpulse/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1 \
    MAILPULSE_DATA_DIR=/var/lib/mailpulse \
    MAILPULSE_CONFIG_FILE=/etc/mailpulse/mailpulse.toml \
    MAILPULSE_LOG_FORMAT=json
WORKDIR /var/lib/mailpulse
USER 10001:10001
# A role ends in order on SIGTERM: it finishes, commits and leaves its group.
STOPSIGNAL SIGTERM
ENTRYPOINT ["mailpulse"]
CMD ["--help"]
