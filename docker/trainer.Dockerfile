# checkov:skip=CKV_DOCKER_2:a job, which ends by itself
# The job: the command line `manasight` on torch, with ImageNet weights inside. Built by docker/bake.hcl, which gives `base`, `tools`.

FROM scratch AS wheels

# Replaced by a folder where the named context `weights` is set.
FROM scratch AS weights
ADD --checksum=sha256:f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec \
    https://download.pytorch.org/models/resnet18-f37072fd.pth /

# Torch changes least and weighs most, so it has a layer of its own.
FROM --platform=$BUILDPLATFORM tools AS torch
ARG TARGETARCH
ARG TORCH_INDEX
RUN --mount=type=cache,target=/root/.cache/uv \
    --mount=type=secret,id=uv_config,target=/root/.config/uv/uv.toml \
    --mount=type=bind,source=requirements/torch.txt,target=/torch.txt \
    --mount=type=bind,from=wheels,target=/wheels \
    python3 /usr/local/bin/site_packages.py install --arch "$TARGETARCH" --wheels /wheels --torch-index "$TORCH_INDEX" \
        --out /opt/torch /torch.txt \
    && touch -d @0 /opt

FROM --platform=$BUILDPLATFORM tools AS site
ARG TARGETARCH
RUN --mount=type=cache,target=/root/.cache/uv \
    --mount=type=secret,id=uv_config,target=/root/.config/uv/uv.toml \
    --mount=type=bind,source=requirements/trainer.txt,target=/trainer.txt \
    --mount=type=bind,from=wheels,target=/wheels \
    python3 /usr/local/bin/site_packages.py install --arch "$TARGETARCH" --wheels /wheels --out /opt/site-packages /trainer.txt \
    && touch -d @0 /opt

# The demo starts from the starter's backbone.
FROM --platform=$BUILDPLATFORM tools AS starter
COPY --from=model model.onnx /out/models/starter/model.onnx
RUN chmod -R u=rwX,go=rX /out && find /out -exec touch -h -d @0 {} +

# Verified here too, because the named context may be anybody's folder.
FROM --platform=$BUILDPLATFORM tools AS imagenet
ARG IMAGENET
RUN --mount=type=bind,from=weights,target=/weights \
    mkdir -p /out/opt/weights \
    && if [ "$IMAGENET" = none ]; then echo "This trainer has no ImageNet weights."; else \
        cp /weights/resnet18-f37072fd.pth /out/opt/weights/ \
        && echo "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec  /out/opt/weights/resnet18-f37072fd.pth" > /sums \
        && sha256sum --check --quiet /sums; fi \
    && chmod -R u=rwX,go=rX /out \
    && find /out -exec touch -h -d @0 {} +

FROM --platform=$BUILDPLATFORM tools AS code
COPY LICENSE pyproject.toml /out/opt/manasight/
COPY cards /out/opt/manasight/cards
COPY trainer /out/opt/manasight/trainer
COPY contract /out/opt/manasight/contract
# The state volume is made from this folder and so belongs to the image's user.
RUN mkdir /out/state /out/data \
    && python3 -c "import pathlib, tomllib; p = tomllib.load(open('/out/opt/manasight/pyproject.toml', 'rb'))['project']; d = pathlib.Path(f'/out/opt/manasight/manasight-{p[\"version\"]}.dist-info'); d.mkdir(); (d / 'METADATA').write_text(f'Metadata-Version: 2.4\nName: manasight\nVersion: {p[\"version\"]}\nLicense-Expression: Apache-2.0\n')" \
    && rm /out/opt/manasight/pyproject.toml \
    && chmod -R u=rwX,go=rX /out \
    && chown 10001:10001 /out/state \
    && find /out -exec touch -h -d @0 {} +

FROM base
ARG REVISION
COPY --from=torch /opt /opt
COPY --from=site /opt /opt
COPY --from=imagenet /out /
COPY --from=starter /out /opt/manasight
COPY --from=code /out /
USER 10001:10001
# Torchrun's shared store keeps the addresses of the workers before a restart, and new ones connect to the dead
# (pytorch#135712): each start gets a store of its own.
ENV TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
ENV PYTHONPATH=/opt/manasight:/opt/site-packages:/opt/torch \
    MANASIGHT_WEIGHTS=/opt/weights/resnet18-f37072fd.pth \
    MANASIGHT_HOME=/state \
    MANASIGHT_GIT_COMMIT=$REVISION \
    ORT_DISABLE_TELEMETRY=1 \
    MLFLOW_DISABLE_TELEMETRY=true \
    GIT_PYTHON_REFRESH=quiet \
    MPLCONFIGDIR=/tmp/matplotlib
ENTRYPOINT ["python3", "-m", "trainer.cli"]
CMD ["--help"]
