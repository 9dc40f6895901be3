# An app's image as the original project's Dockerfile would make it: one stage, everything from the default index. Only
# benchmarks/images.py builds it. uv stands for pip, which not every base has; what is installed is the same.
FROM python
COPY --from=uv /uv /usr/local/bin/uv
# uv has authorities of its own and does not know those of a closed network.
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
# Empty: the default index, whose torch brings CUDA's packages along.
ARG TORCH_INDEX
RUN uv pip install --system --break-system-packages --no-cache ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch==2.15.0 torchvision==0.29.2 \
    && uv pip install --system --break-system-packages --no-cache lightning==2.6.6 streamlit==1.67.0 captum==0.9.0
COPY . /app
WORKDIR /app
EXPOSE 8501
CMD ["streamlit", "run", "main.py", "--server.address=0.0.0.0"]
