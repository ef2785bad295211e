# Built with `docker build .`; needs neither BuildKit-only syntax nor a compiler.

FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore

# The lock comes first: as long as it stays the same, a change in app/ reuses this layer.
# The environment is made without pip, and the image's own pip installs into it from outside.
# Only wheels, so that nothing is compiled and no package's set-up code runs.
COPY requirements.txt /tmp/requirements.txt
RUN python -m venv --without-pip /opt/venv \
 && pip --python /opt/venv/bin/python install \
        --require-hashes --no-deps --only-binary :all: --no-compile -r /tmp/requirements.txt \
 && python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/venv/lib

# Bytecode is made here, because at run time nothing may be written. It is "unchecked": the sources never
# change inside an image, and file times (which copying may alter) play no part.
COPY app /srv/app
RUN python -m compileall -q -j 0 --invalidation-mode unchecked-hash /srv/app


FROM python:3.13-slim
# The base image's own pip is of no use at run time, so it goes. The uid is fixed, so that volumes and
# policies such as Kubernetes' runAsNonRoot can name it.
RUN python -m pip uninstall --yes --quiet --root-user-action ignore pip \
 && rm -rf /usr/local/lib/python3.13/ensurepip \
 && groupadd --gid 10001 app \
 && useradd --uid 10001 --gid app --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin app

ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
COPY --from=build /opt/venv /opt/venv
COPY --from=build /srv/app /srv/app

# All files belong to root: the service cannot change its own code. It writes to /tmp at most (larger uploads),
# so a read-only root file system with a tmpfs on /tmp is enough.
WORKDIR /srv
USER 10001:10001
EXPOSE 8000

# http.client rather than urllib: it ignores HTTP_PROXY, which would lead the check out of the container.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-ISc", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8000, timeout=4); c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"]

# A list, not a shell line: SIGTERM reaches uvicorn itself. Requests under way then have 25 s to end, so whatever
# stops the container has to wait longer than that (`docker stop -t 35`).
CMD ["uvicorn", "app.main:app", "--host", "0.0.0.0", "--port", "8000", "--no-access-log", "--timeout-graceful-shutdown", "25"]

# Last, so that a new revision does not spoil the layers above.
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="ticketing" \
      org.opencontainers.image.description="An async, API-first help-desk service on MongoDB" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.base.name="docker.io/library/python:3.13-slim"
