"""Kernel filters for sockets: classic BPF, assembled here.

The filter of a receive ring lets only frames pass that may be replies: TCP towards our source ports, ICMP and ICMPv6
(errors quote our probes; neighbour advertisements), and ARP. So the traffic of the machine's own users is not copied
into the ring. The filter is coarse and only saves work: every frame that passes it is still checked in full. Later
IPv4 fragments and IPv6 packets with extension headers pass too; they are rare, and the parser counts them.

Source: Linux Documentation/networking/filter.rst (opcodes, SKF offsets), include/uapi/linux/filter.h (struct
sock_filter, struct sock_fprog), include/uapi/asm-generic/socket.h.
"""

import ctypes
import socket
import struct

from ..packet.headers import ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, PROTO_ICMP, PROTO_TCP

SO_ATTACH_FILTER = 26
ACCEPT, REJECT = 0x40000, 0  # how many bytes of the frame to keep

# Loads into the accumulator: a half word, a byte, and a half word behind the IPv4 header, whose length LDX_IP puts into
# the index register. Jumps compare the accumulator with the constant; both distances count from the next instruction.
_LD_H, _LD_B, _LDX_IP, _LD_H_IND = 0x28, 0x30, 0xB1, 0x48
_JEQ, _JGT, _JGE, _JSET, _RET = 0x15, 0x25, 0x35, 0x45, 0x06

_PROTO_UDP = 17

Instructions = list[tuple[int, int, int, int]]  # code, jump if true, jump if false, constant

DROP_ALL: Instructions = [(_RET, 0, 0, REJECT)]


def program(link_bytes: int, first_port: int, last_port: int) -> Instructions:
    """Accept possible replies to ports first_port … last_port, in frames with a link header of 0 or 14 bytes."""
    ipv4 = _ipv4(link_bytes, first_port, last_port)
    ipv6 = _ipv6(link_bytes, first_port, last_port)
    if not link_bytes:  # the version, in the upper half of the first byte, decides
        return [(_LD_B, 0, 0, 0), (_JGE, len(ipv4), 0, 0x60), *ipv4, *ipv6]
    return [
        (_LD_H, 0, 0, 12),  # EtherType
        (_JEQ, 0, 1, ETHERTYPE_ARP),
        (_RET, 0, 0, ACCEPT),
        (_JEQ, 0, len(ipv4), ETHERTYPE_IPV4),
        *ipv4,
        (_JEQ, 1, 0, ETHERTYPE_IPV6),
        (_RET, 0, 0, REJECT),
        *ipv6,
    ]


def attach(sock: socket.socket, instructions: Instructions) -> None:
    """Let only what the filter accepts reach the socket. Raises PermissionError where the kernel forbids it."""
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in instructions)
    buffer = ctypes.create_string_buffer(code, len(code))  # must live until setsockopt has returned
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", len(instructions), ctypes.addressof(buffer)))


def _ipv4(ip: int, first: int, last: int) -> Instructions:
    return [
        (_LD_B, 0, 0, ip + 9),  # protocol
        (_JEQ, 0, 1, PROTO_ICMP),
        (_RET, 0, 0, ACCEPT),
        (_JEQ, 1, 0, PROTO_TCP),
        (_RET, 0, 0, REJECT),
        (_LD_H, 0, 0, ip + 6),
        (_JSET, 4, 0, 0x1FFF),  # a later fragment has no ports: let it pass, to be counted
        (_LDX_IP, 0, 0, ip),
        (_LD_H_IND, 0, 0, ip + 2),  # destination port
        (_JGE, 0, 2, first),
        (_JGT, 1, 0, last),
        (_RET, 0, 0, ACCEPT),
        (_RET, 0, 0, REJECT),
    ]


def _ipv6(ip: int, first: int, last: int) -> Instructions:
    return [
        (_LD_B, 0, 0, ip + 6),  # next header
        (_JEQ, 0, 4, PROTO_TCP),
        (_LD_H, 0, 0, ip + 42),  # destination port
        (_JGE, 0, 3, first),
        (_JGT, 2, 0, last),
        (_RET, 0, 0, ACCEPT),
        (_JEQ, 0, 1, _PROTO_UDP),  # all but UDP may be an error, an advertisement or an extension header
        (_RET, 0, 0, REJECT),
        (_RET, 0, 0, ACCEPT),
    ]
