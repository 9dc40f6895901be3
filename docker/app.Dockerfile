# The app: Streamlit and ONNX Runtime with a model inside. Built by docker/bake.hcl, which gives `base`, `tools`, `model`.

FROM scratch AS wheels

# Wheels for the target, resolved and unpacked on the platform that builds: nothing is emulated.
FROM --platform=$BUILDPLATFORM tools AS site
ARG TARGETARCH
RUN --mount=type=cache,target=/root/.cache/uv \
    --mount=type=secret,id=uv_config,target=/root/.config/uv/uv.toml \
    --mount=type=bind,source=requirements/app.txt,target=/app.txt \
    --mount=type=bind,from=wheels,target=/wheels \
    python3 /usr/local/bin/site_packages.py install --arch "$TARGETARCH" --wheels /wheels --out /opt/site-packages /app.txt \
    && touch -d @0 /opt

# A label must not name a model that is not the one inside.
FROM --platform=$BUILDPLATFORM tools AS starter
ARG MODEL_SHA256
COPY --from=model model.onnx /out/models/starter/model.onnx
RUN if [ -n "$MODEL_SHA256" ]; then echo "$MODEL_SHA256  /out/models/starter/model.onnx" > /sums && sha256sum --check --quiet /sums; fi \
    && chmod -R u=rwX,go=rX /out \
    && find /out -exec touch -h -d @0 {} +

# Files get a constant mode and time instead of the checkout's. Not the commit's: the cache compares what is copied without its
# times, so that an unchanged file would keep those of the commit that was built first.
FROM --platform=$BUILDPLATFORM tools AS code
COPY LICENSE /out/LICENSE
COPY app /out/app
COPY contract /out/contract
# A volume at /state is made from this folder and so belongs to the image's user.
RUN mkdir /state && chown 10001:10001 /state \
    && chmod -R u=rwX,go=rX /out && find /out /state -exec touch -h -d @0 {} +

# Nothing runs from here on. The layers that change least come first.
FROM base
COPY --from=site /opt /opt
COPY --from=starter /out /opt/manasight
COPY --from=code /out /opt/manasight
COPY --from=code --chown=10001:10001 /state /state
USER 10001:10001
ENV ORT_DISABLE_TELEMETRY=1 \
    MANASIGHT_HOME=/state
EXPOSE 8501
# Streamlit stops at SIGTERM; Python is PID 1, so the signal reaches it. Without an address it listens on IPv4 and IPv6,
# or on IPv4 alone where the host has no IPv6.
CMD ["python3", "-m", "streamlit", "run", "app/main.py", "--server.port=8501"]
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --start-interval=1s --retries=3 \
    CMD ["python3", "-IS", "app/health.py"]
