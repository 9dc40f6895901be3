# checkov:skip=CKV_DOCKER_2:nothing runs in it
# Two stages that the images share: `tools` unpacks wheels on the platform that builds, `base` is the root file system
# they run on. Bake passes `python` and `uv` as named contexts.

FROM python AS target

FROM --platform=$BUILDPLATFORM uv AS installer

FROM --platform=$BUILDPLATFORM python AS tools
COPY --from=installer --chmod=755 /uv /usr/local/bin/uv
COPY site_packages.py /usr/local/bin/site_packages.py
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    UV_LINK_MODE=copy \
    UV_PYTHON_DOWNLOADS=never \
    PYTHONHASHSEED=0

# The target's files without what only an attacker would use: no shell, no package manager, no program but Python.
# Copied and deleted here, on the building platform, so that nothing of the target ever runs. What changes gets a constant
# time, so that two builds make the same layer.
FROM tools AS stripped
ARG TARGETARCH
RUN --mount=type=bind,from=target,target=/target \
    touch -d "2 seconds ago" /tmp/start \
    && mkdir -p /rootfs/usr/local/lib /rootfs/usr/local/bin \
    && cp -a /target/. /rootfs/ \
    && find /rootfs/usr /rootfs/etc -name '*.sh' -delete \
    && find /rootfs/usr/bin /rootfs/usr/sbin /rootfs/usr/local/bin -mindepth 1 \
        ! -name 'python3' ! -name 'python3.[0-9]*' -delete \
    && find /rootfs/usr/bin /rootfs/usr/local/bin -name '*-config' -delete \
    && find /rootfs/usr/lib /rootfs/usr/local/lib -depth -type d \
        \( -name ensurepip -o -name idlelib -o -name turtledemo -o -name tkinter -o -name test -o -name __pycache__ \
           -o -name pip -o -name 'pip-*' -o -name apt -o -name dpkg -o -name 'perl*' -o -name include \) -exec rm -rf {} + \
    && rm -rf /rootfs/var/lib/apt /rootfs/var/cache /rootfs/var/log /rootfs/usr/include /rootfs/usr/share/perl* \
        /rootfs/usr/share/man /rootfs/usr/share/info /rootfs/usr/share/locale /rootfs/etc/apt /rootfs/root/.cache \
        /rootfs/tmp \
    && mkdir -m 1777 /rootfs/tmp \
    && mkdir -p /rootfs/opt/manasight \
    && echo 'manasight:x:10001:10001::/tmp:/nonexistent' >> /rootfs/etc/passwd \
    && echo 'manasight:x:10001:' >> /rootfs/etc/group \
    && find /rootfs/usr/lib /rootfs/usr/local/lib -maxdepth 1 -name 'python3.*' \
        -exec python3 -m compileall -q --invalidation-mode unchecked-hash -s /rootfs {} + \
    && find /rootfs -newer /tmp/start -exec touch -h -d @0 {} + \
    && python3 /usr/local/bin/site_packages.py check-elf --arch "$TARGETARCH" /rootfs

FROM scratch AS base
COPY --from=stripped /rootfs /
# Streamlit takes a folder that is not called site-packages for its own source tree.
ENV PATH=/usr/local/bin:/usr/bin \
    LANG=C.UTF-8 \
    HOME=/tmp \
    PYTHONPATH=/opt/site-packages \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
WORKDIR /opt/manasight
USER 10001:10001
