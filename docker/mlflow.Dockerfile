# MLflow's server: tracking and registry in PostgreSQL, artifacts in S3. Built by docker/bake.hcl, which gives `base`, `tools`.

FROM scratch AS wheels

FROM --platform=$BUILDPLATFORM tools AS site
ARG TARGETARCH
RUN --mount=type=cache,target=/root/.cache/uv \
    --mount=type=secret,id=uv_config,target=/root/.config/uv/uv.toml \
    --mount=type=bind,source=requirements/mlflow.txt,target=/mlflow.txt \
    --mount=type=bind,from=wheels,target=/wheels \
    python3 /usr/local/bin/site_packages.py install --arch "$TARGETARCH" --wheels /wheels --out /opt/site-packages /mlflow.txt \
    && touch -d @0 /opt

FROM --platform=$BUILDPLATFORM tools AS code
COPY LICENSE /out/opt/manasight/
COPY docker/mlflow/manasight_mlflow/*.py /out/opt/manasight/manasight_mlflow/
# MLflow finds its artifacts module as a plugin by this.
COPY docker/mlflow/manasight_mlflow-0.dist-info /out/opt/manasight/manasight_mlflow-0.dist-info
# A new volume that is mounted here first belongs to the image's user: compose.yaml and its object store rely on it.
RUN mkdir /out/data \
    && chmod -R u=rwX,go=rX /out \
    && chown 10001:10001 /out/data \
    && find /out -exec touch -h -d @0 {} +

FROM base
COPY --from=site /opt /opt
COPY --from=code /out /
USER 10001:10001
# One worker and no job runner: 0.5 GB instead of 2.8 GB. The checksums are what boto3 sends by default and not every store takes.
ENV PYTHONPATH=/opt/manasight:/opt/site-packages \
    MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false \
    MLFLOW_DISABLE_TELEMETRY=true \
    GIT_PYTHON_REFRESH=quiet \
    AWS_REQUEST_CHECKSUM_CALCULATION=when_required \
    AWS_RESPONSE_CHECKSUM_VALIDATION=when_required
EXPOSE 5000
ENTRYPOINT ["python3", "-m", "manasight_mlflow"]
CMD ["server"]
HEALTHCHECK --interval=15s --timeout=10s --start-period=180s --start-interval=1s --retries=5 \
    CMD ["python3", "-S", "-c", "import http.client as h; c = h.HTTPConnection('localhost', 5000, timeout=9); c.request('GET', '/health'); raise SystemExit(c.getresponse().status != 200)"]
