# halfopen in a container, as an ordinary user whose only capability is CAP_NET_RAW:
#
#   docker build -t halfopen .
#   docker run --rm --network=host --cap-drop=ALL --cap-add=NET_RAW halfopen syn 192.0.2.0/24 -p 22,80
#
# --network=host: the scan uses the interfaces and routes of the machine. For files: -v "$PWD:/work" --user "$(id -u)".
# tests/live/test_dockerfile.py follows these steps without Docker.
FROM python:3.13-slim

COPY pyproject.toml README.md LICENSE /src/
COPY scanner /src/scanner
# --copies: this Python is a file of its own, so that only it gets the capability below.
RUN python3 -m venv --copies /opt/halfopen \
    && /opt/halfopen/bin/python -m pip install --no-cache-dir '/src[report]' \
    && rm -r /src
# Docker gives a user who is not root no capability, but a program file can. This is setcap cap_net_raw+p, without the
# program setcap (struct vfs_cap_data of include/uapi/linux/capability.h, revision 2). The capability is permitted and
# not effective, so verbs that need none also start without --cap-add. halfopen itself makes it effective.
RUN python3 -c "import os, struct; os.setxattr('/opt/halfopen/bin/python', 'security.capability', struct.pack('<5I', 0x02000000, 1 << 13, 0, 0, 0))"

WORKDIR /work
USER 10001:10001
ENTRYPOINT ["/opt/halfopen/bin/python", "/opt/halfopen/bin/halfopen"]
